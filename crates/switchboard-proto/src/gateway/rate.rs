//! How often a client may send.

use super::settings::GatewaySettings;

/// A token bucket, written as the moment at which it is full again.
#[derive(Debug, Default)]
pub(super) struct MessageRate {
    full_at_us: u64,
}

impl MessageRate {
    /// Takes a token; `false` if there is none.
    pub(super) fn admit(&mut self, settings: &GatewaySettings, now_ms: u64) -> bool {
        let period_us = settings.rate_period_ms.saturating_mul(1000);
        let Some(token_us) = token_us(settings) else { return true };
        let now_us = now_ms.saturating_mul(1000);
        let full_at_us = self.full_at_us.max(now_us).saturating_add(token_us);
        let is_left = full_at_us - now_us <= period_us;
        if is_left {
            self.full_at_us = full_at_us;
        }
        is_left
    }

    /// Returns a token that was taken for a message that does not count.
    pub(super) fn give_back(&mut self, settings: &GatewaySettings) {
        self.full_at_us = self.full_at_us.saturating_sub(token_us(settings).unwrap_or(0));
    }
}

/// The time in which a token comes back; `None`: the rate is not limited.
fn token_us(settings: &GatewaySettings) -> Option<u64> {
    settings.rate_period_ms.saturating_mul(1000).checked_div(settings.rate_messages.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_may_come_at_once_and_then_one_after_the_other() {
        let settings = GatewaySettings { rate_messages: 3, rate_period_ms: 3000, ..GatewaySettings::default() };
        let mut rate = MessageRate::default();
        let mut admit = |now_ms| rate.admit(&settings, now_ms);
        assert_eq!([5, 5, 5, 5].map(&mut admit), [true, true, true, false]);
        assert_eq!([1004, 1005, 1005].map(&mut admit), [false, true, false]);
        assert_eq!([9000, 9000, 9000, 9000].map(&mut admit), [true, true, true, false]);
    }

    #[test]
    fn a_token_that_is_given_back_can_be_taken_again() {
        let settings = GatewaySettings { rate_messages: 1, rate_period_ms: 3000, ..GatewaySettings::default() };
        let mut rate = MessageRate::default();
        assert!(rate.admit(&settings, 5) && !rate.admit(&settings, 5));
        rate.give_back(&settings);
        assert!(rate.admit(&settings, 5) && !rate.admit(&settings, 5));
    }

    #[test]
    fn without_a_number_any_may_come() {
        let settings = GatewaySettings { rate_messages: 0, ..GatewaySettings::default() };
        let mut rate = MessageRate::default();
        assert!((0..1000).all(|_| rate.admit(&settings, 0)));
    }
}
