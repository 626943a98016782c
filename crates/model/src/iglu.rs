//! Iglu schema keys.
