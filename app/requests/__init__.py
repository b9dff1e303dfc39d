"""What a request comes to, a job or a network, and all that refuses it before there is either."""
