"""What happens to every request before and after its route; plain ASGI, so that streams pass unbuffered.

request_log     the id of the request, in and out; one line in the log at its end
audit           one security event for each request
origin          the names that the server answers to, and the web pages that may use it
authentication  who is calling, and whether he may
limits          how much he may ask for
content         the content policy of his
admission       503 while nobody is there to do the work
upload          body length, time and encoding; the body in one piece
departure       a client that goes away ends the work for it
caller_trace    the trace of the caller, where a collector hears of requests
"""
