// the hub model test
