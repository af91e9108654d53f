"""Reading, checking and explaining conf/."""
