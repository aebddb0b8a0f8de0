"""`listener verify`: do tree and logs agree, and how to mend them."""
