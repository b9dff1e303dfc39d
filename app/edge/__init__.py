"""What surrounds the routes: who may pass, what is written down of it, what an error looks like, and the document of it all."""
