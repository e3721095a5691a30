"""Any network cut in two where it pays: captured, cut by what is live, planned from measurements. Needs torch."""
