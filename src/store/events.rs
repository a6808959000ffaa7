//! x
pub(super) fn operations() -> Vec<super::api::Operation> {
    Vec::new()
}
