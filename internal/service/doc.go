// Package service calls microservices: over HTTP or NATS, under policies that keep a slow,
// broken, lying or hostile service from costing more than its own calls.
//
// # The way of a call
//
//	Service.Call ─▶ retry ─▶ rate ─▶ concurrency ─▶ breaker ─▶ time-out ─▶ transport.send
//	                                                                          │
//	            CallResult ◀── []Reply ◀── decoder.decode ◀── 2xx ◀───────────┤
//	                       ◀── Failure ◀── statusFailure, broken ◀────────────┘
//
// A NATS call over the server's max payload is cut into parts first; every part goes this way
// on its own.
//
// # The order of the policies
//
// From the outside in, by failsafe-go:
//
//  1. Retry: up to _TRIES requests, with full jitter between them or the pause that
//     Retry-After asks for. A pause of more than a second is not waited for: the call ends,
//     and the jobs wait in the broker instead of a slot of the pool.
//  2. Rate limit: outside the concurrency, so that nobody holds a permit while waiting for
//     the rate.
//  3. Concurrency: a bulkhead of _CONCURRENCY requests or, with auto, an adaptive limiter.
//  4. Circuit breaker: inside all that waits, so that it sees every try and nothing else: a
//     call that finds no permit says nothing of the service, and would count as a success. It
//     opens when half of at least 10 tries (3 × _CONCURRENCY, if fewer) failed within 30
//     seconds (or three time-outs, if longer), refuses everything for about 5 seconds, then
//     lets three tries through. It is also asked before a call begins and before a try is
//     repeated, so that a refused call waits for nothing and uses up no rate. A refused call
//     has Tries 0 and burns no attempt of its jobs.
//  5. Time-out: innermost, so that waiting for a permit is not taken for a slow service.
//
// A try waits at most half a _TIMEOUT for the rate and half a _TIMEOUT for a permit. So a call
// takes at most
//
//	_TRIES × 2 × _TIMEOUT + (_TRIES − 1) × 1 s
//
// and less when its context ends first: 62 seconds with the defaults, when all is as bad as
// can be.
//
// # What failures mean
//
//	reason        when                                        repeated  trips breaker  Final
//	timeout       no complete reply in time                   yes       yes            no
//	refused       connection refused, no NATS responders      yes       yes            no
//	reset         connection broke before or in the reply     yes       yes            no
//	dns           the host name does not resolve              yes       yes            no
//	http_5xx      5xx                                         yes       yes            no
//	bad_response  not HTTP, not a reply, unknown job          yes       yes            no
//	too_large     reply over _MAX_REPLY                       yes       yes            no
//	throttled     429                                         yes       no             no
//	http_4xx      408, 425                                    yes       no             no
//	http_4xx      other 4xx                                   no        no             yes
//	redirect      3xx, never followed                         no        no             yes
//	tls           certificates or versions do not agree       no        no             no
//	refused       a link-local or metadata address            no        no             no
//	breaker_open  held back by the breaker                    no        –              no
//	overload      no permit in time                           no        no             no
//	canceled      the caller's context ended                  no        no             no
//
// The reason tls and forbidden addresses are mistakes in the settings of either side. Nothing
// was sent, so Tries does not count them and no job dies of a wrong CA file: its jobs come
// back until somebody mends it. A breaker or a limit that refuses a repetition leaves the
// failure of the try before it standing.
package service
