// Package service calls microservices: over HTTP or NATS, under policies that keep a slow,
// broken, lying or hostile service from costing more than its own calls.
//
// # The way of a call
//
//	Service.Call ─▶ each ─▶ prepare ─▶ retry ─▶ rate ─▶ concurrency ─▶ breaker ─▶ time-out ─▶ transport.send
//	              (event,    (holes)                                                              │
//	               plain)                                                                         │
//	            CallResult ◀── []Reply ◀── reading.accept ◀── an accepted status ◀────────────────┤
//	                       ◀── Failure ◀── reading.failure, broken ◀──────────────────────────────┘
//
// # Call, try and attempt
//
// A try is one request. A call is what is tried up to _TRIES times in a row. An attempt is what a
// job has _MAX_ATTEMPTS of; between two of them it waits in the broker.
//
//	format   a call is                              its Idempotency-Key
//	batch    one request for all jobs of a batch    "<batch>:<service>", for a part ":<hash>" behind it
//	event    one request for each job, side by side "<uid>:<service>", the same at every attempt
//	plain    as event                               as event
//
// So in the formats event and plain the policies below see single requests: _CONCURRENCY, _RATE,
// _TRIES, _TIMEOUT and the breaker count requests for one job. A batch call over NATS that
// exceeds the server's max payload is cut into parts; each part is a call.
//
// # The order of the policies
//
// From the outside in, with the parts of failsafe-go but not its executor, which costs as much as the rest of a call:
//
//  1. Breaker and pace are asked first: a call that would be refused waits for nothing and uses
//     up no rate.
//  2. Retry: up to _TRIES requests, with full jitter between them or the wait that
//     Retry-After asks for. A wait of more than a second does not take place: the call ends,
//     and the jobs wait in the broker instead of a slot of the pool.
//  3. Rate limit: outside the concurrency, so that nobody holds a permit while waiting for
//     the rate.
//  4. Concurrency: a bulkhead of _CONCURRENCY requests or, with auto, an adaptive limiter.
//  5. Circuit breaker: inside all that waits, so that it sees every try and nothing else: a
//     call that finds no permit says nothing of the service, and would count as a success. It
//     opens when half of at least 10 tries (3 × _CONCURRENCY, if fewer) failed within 30
//     seconds (or three time-outs, if longer), refuses everything for about 5 seconds, then
//     lets three tries through. A mistake in the settings opens it at once.
//  6. Time-out: innermost, so that waiting for a permit is not taken for a slow service.
//
// A try waits at most half a _TIMEOUT for the rate and half a _TIMEOUT for a permit. So a call
// takes at most
//
//	_TRIES × 2 × _TIMEOUT + (_TRIES − 1) × 1 s
//
// and less when its context ends first: 62 seconds with the defaults, when all is as bad as
// can be. In the formats event and plain the requests of all batches stand in one line, the oldest
// batch first, and _CONCURRENCY of them are under way. They wait there as long as the call lasts;
// for the rate each waits up to 10 × _TIMEOUT, and jobs whose turn does not come go back to the
// broker, unsent. Of what _KEEP collects at most _MAX_REPLY is kept for a batch.
//
// # What failures mean
//
//	reason        when                                        repeated  trips breaker  burns an attempt
//	timeout       no complete reply in time                   yes       yes            yes
//	reset         connection broke before or in the reply     yes       yes            yes
//	http_5xx      5xx                                         yes       yes            yes
//	bad_response  not HTTP, not a reply, unknown job          yes       yes            yes
//	too_large     reply over _MAX_REPLY                       yes       yes            yes
//	http_4xx      408, 425, and 4xx in _RETRY                 yes       in batch       yes
//	http_4xx      other 4xx: final, the job's                 no        no             yes
//	throttled     429                                         (1)       no             no
//	refused       connection refused, no NATS responders      yes       yes            no
//	dns           the host name does not resolve              yes       yes            no
//	http_4xx      401 403 405 407, in batch also 404 410      no        at once        no
//	http_4xx      400 of a port that wants TLS, not http://   no        at once        no
//	redirect      3xx, never followed                         no        at once        no
//	tls           certificates or versions do not agree       no        at once        no
//	refused       a link-local or metadata address            no        at once        no
//	refused       a subject that NATS denies this user        no        at once        no
//	token         no OAuth token: refused, or no endpoint     (2)       yes (2)        no
//	hole          the job cannot fill a hole: final           no        no             no
//	overload      no permit in time                           no        no             no
//	overload      no descriptor, no connection to NATS here   yes       no             no
//	breaker_open  held back by the breaker                    no        –              no
//	canceled      the caller's context ended                  no        no             no
//
// (1) If Retry-After names a second or less. Else all calls to the service are held back for that
// long, or the least time between two requests doubles, from 50 ms up to 5 s; it shrinks by a
// quarter at each success.
// (2) Credentials that the endpoint refuses are a mistake in the settings: at once, not repeated.
//
// _OK, _RETRY and _FAIL read a status otherwise. A call that is made while the breaker is not
// closed burns no attempt, whatever comes of it. A call that burns none and sent no request
// counts no try. A reset of a kept connection before any byte of a reply is no failure: the
// request goes out once more on a new connection. A connection that the service closed in good
// order may have carried the request, so that is a reset as in the table.
//
// A breaker or a limit that refuses a repetition leaves the failure of the try before it
// standing, and a breaker that is open names the failure that opened it.
package service
