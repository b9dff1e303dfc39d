"""Who may do what, and who did: all SQL about keys and the audit log. What is changed elsewhere is noted here."""
