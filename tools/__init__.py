"""Tools that build, measure and attack the kit: set-up, benches, fuzzers. No room imports them."""
