"""Where alerts go besides the log: a webhook, an email, a command.

Each is made by `settings` out of the operator's file, and sends one alert at a time, within seconds; what
happens when it cannot is the business of `delivery`.
"""
