//! Identifiers as columns: they are texts in the database, and parsed on the way out like anywhere else.

use sqlx::any::{AnyTypeInfo, AnyValueRef};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::{Any, Database, Decode, Encode, Type};

use crate::domain::Id;
use crate::domain::id::Kind;

impl<K> Type<Any> for Id<K> {
    fn type_info() -> AnyTypeInfo {
        <String as Type<Any>>::type_info()
    }
}

impl<'q, K> Encode<'q, Any> for Id<K> {
    fn encode_by_ref(&self, buffer: &mut <Any as Database>::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <String as Encode<'q, Any>>::encode(self.as_str().to_owned(), buffer)
    }
}

impl<'r, K: Kind> Decode<'r, Any> for Id<K> {
    fn decode(value: AnyValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self::new(&<String as Decode<'r, Any>>::decode(value)?)?)
    }
}
