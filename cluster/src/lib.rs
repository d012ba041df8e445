//! Ranks, sharding, driver.
