//! Holds nothing: the tests beside it check the workspace itself.
