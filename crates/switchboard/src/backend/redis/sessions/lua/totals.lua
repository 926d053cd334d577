-- How many sessions there are, how many of them no connection carries, and how many events their logs hold, of how
-- many bytes. Sessions that have expired count until they are swept.
return {redis.call('HLEN', ROWS), sum('detached'), redis.call('HLEN', LOG), sum('bytes')}
