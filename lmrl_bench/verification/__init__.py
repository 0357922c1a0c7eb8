"""Checks the results of others: validate, rescore, retrain."""
