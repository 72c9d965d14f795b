"""Backtests: the live engine over the past, and what its signals would have got.

The pure part: what a run assumes (`terms`), orders and their fills (`lanes`, on the
paper venue that the desk itself trades on), what one pass over the frames saw
(`passing`), and the figures (`statistics`, `outcome`). `runs` and `jobs` do the rest.
"""
