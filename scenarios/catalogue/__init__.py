"""The catalogues describe real hardware and published models, each with its source."""
