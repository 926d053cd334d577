-- Sessions that the application has begun today. The answer: since when they are counted, how many, and the time.
return {text(sum('began')), text(sum('starts')), text(NOW)}
