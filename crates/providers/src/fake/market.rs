//! What the fake cloud sells: with an empty market it sells everything, at no known price.

use navarch_model::{CapacityKind, Offer, Price};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::wire::{LaunchRequest, id};

/// The most products of a market.
const MAX_PRODUCTS: usize = 1000;

/// One thing that the cloud sells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// The region, empty if none.
    #[serde(default)]
    pub region: String,
    /// The zone; empty sells in every zone of the region.
    #[serde(default)]
    pub zone: String,
    /// The machine type.
    pub instance_type: String,
    /// How firmly it is rented.
    #[serde(default)]
    pub capacity: CapacityKind,
    /// Dollars per hour as decimal text, such as `"12.50"`; none if the cloud does not say.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "decimal",
        deserialize_with = "from_decimal"
    )]
    pub price: Option<Price>,
    /// How many machines of it may be live at once; none for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machines: Option<usize>,
}

/// What the cloud sells, as its API takes and shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Market {
    /// The products. None means that everything is sold and nothing is listed.
    pub products: Vec<Product>,
}

impl Market {
    /// Says which field makes no sense, and why.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.products.len() > MAX_PRODUCTS {
            return Err(format!(
                "products: has {} entries; the most is {MAX_PRODUCTS}",
                self.products.len()
            ));
        }
        for (index, product) in self.products.iter().enumerate() {
            let path = |field| format!("products[{index}].{field}");
            id(&path("instance_type"), &product.instance_type)?;
            for (field, text) in [("region", &product.region), ("zone", &product.zone)] {
                if !text.is_empty() {
                    id(&path(field), text)?;
                }
            }
            let earlier = &self.products[..index];
            if earlier.iter().any(|other| other.place() == product.place()) {
                return Err(format!("products[{index}]: is listed twice; keep one"));
            }
        }
        Ok(())
    }

    /// The product that a request asks for; `None` where everything is sold.
    ///
    /// # Errors
    ///
    /// The cloud does not sell it.
    pub(crate) fn product(&self, request: &LaunchRequest) -> Result<Option<&Product>, String> {
        if self.products.is_empty() {
            return Ok(None);
        }
        let here = || {
            self.products
                .iter()
                .filter(|product| product.sells(request))
        };
        let exact = here().find(|product| product.zone == request.zone);
        exact.or_else(|| here().next()).map(Some).ok_or_else(|| {
            format!(
                "instance_type: {} is not sold in region {:?}, zone {:?} as {}",
                request.instance_type,
                request.region,
                request.zone,
                request.capacity.word()
            )
        })
    }

    /// What is listed, with `live` machines of each product; `None` where nothing is.
    pub(crate) fn offers(&self, live: impl Fn(&Product) -> usize) -> Option<Vec<Offer>> {
        let offer = |product: &Product| Offer {
            region: product.region.clone(),
            zone: product.zone.clone(),
            instance_type: product.instance_type.clone(),
            capacity: product.capacity,
            price: product.price,
            available: Some(product.machines.is_none_or(|most| live(product) < most)),
        };
        (!self.products.is_empty()).then(|| self.products.iter().map(offer).collect())
    }
}

impl Product {
    fn place(&self) -> (&str, &str, &str, CapacityKind) {
        (&self.region, &self.zone, &self.instance_type, self.capacity)
    }

    /// Whether a request asks for it.
    pub(crate) fn sells(&self, request: &LaunchRequest) -> bool {
        let zone = self.zone.is_empty() || request.zone.is_empty() || self.zone == request.zone;
        zone && (&self.region, &self.instance_type, self.capacity)
            == (&request.region, &request.instance_type, request.capacity)
    }
}

fn decimal<S: Serializer>(price: &Option<Price>, serializer: S) -> Result<S::Ok, S::Error> {
    price.map(Price::decimal).serialize(serializer)
}

fn from_decimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Price>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let price = text.map(|text| text.parse().map_err(serde::de::Error::custom));
    price.transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_products_are_refused_with_the_field() {
        for (market, problem) in [
            (
                r#"{"products":[{"instance_type":""}]}"#,
                "products[0].instance_type: ",
            ),
            (
                r#"{"products":[{"instance_type":"a","zone":"b c"}]}"#,
                "products[0].zone: ",
            ),
            (
                r#"{"products":[{"instance_type":"a"},{"instance_type":"a","price":"1"}]}"#,
                "products[1]: is listed twice",
            ),
        ] {
            let parsed: Market = serde_json::from_str(market).expect(market);
            let said = parsed.check().expect_err(market);
            assert!(said.starts_with(problem), "{market}: {said}");
        }
        for unreadable in [
            r#"{"products":[{}]}"#,
            r#"{"products":[{"instance_type":"a","price":1.5}]}"#,
            r#"{"products":[{"instance_type":"a","price":"cheap"}]}"#,
            r#"{"products":[{"instance_type":"a","machines":-1}]}"#,
            r#"{"products":[{"instance_type":"a","capacity":"reserved"}]}"#,
            r#"{"product":[]}"#,
        ] {
            assert!(
                serde_json::from_str::<Market>(unreadable).is_err(),
                "{unreadable}"
            );
        }
    }
}
