"""Jobs as those see them who ask for them: what may be asked, how it is sent, and what becomes of one job."""
