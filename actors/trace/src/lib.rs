//! Counters, hop records and histograms of the actors.
