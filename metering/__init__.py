"""The pure domain of Tallygate: events, meters, catalogs, periods, positions. No I/O, no clock of its own."""
