"""What builds, measures and attacks the kit: set-up, benches, fuzzers. No room imports it."""
