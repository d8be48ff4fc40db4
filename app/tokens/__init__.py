"""Everything signed or sealed. The only importer of jwt and joserfc."""
