"""What happens to every request before and after its route; plain ASGI, so that streams pass unbuffered.

request_log   the id of the request, in and out; one line in the log at its end
upload        body length, time and encoding; the body in one piece
departure     a client that goes away ends the work for it
"""
