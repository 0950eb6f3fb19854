"""`make images`: our images built from their Containerfiles, with an archive and a list of contents each (docs/images.md)."""
