"""Kadun 卡盾: a self-hosted card-key (卡密) licence server."""
