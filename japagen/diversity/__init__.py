"""How varied a set of texts is, against gold and from round to round."""
