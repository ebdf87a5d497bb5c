"""The appliance's certificate authority, and who a client certificate is."""
