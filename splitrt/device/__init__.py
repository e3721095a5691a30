"""Device side: head runners, link, frame loop, clients. Never imports the server side, torch or ray by itself."""
