//! CIDRs, such as a node's pod addresses. Pure.

use std::net::IpAddr;

/// The address of a CIDR; None if it is none.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    length.parse::<u8>().is_ok_and(|length| length <= longest).then_some(address)
}

/// The node's pod CIDRs, of every family; often none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodCidrs(Vec<String>);

impl PodCidrs {
    /// Reads one, or several with commas; the error names what is no CIDR.
    pub fn parse(text: &str) -> Result<Self, String> {
        let cidrs = text.split(',').map(str::trim).filter(|cidr| !cidr.is_empty());
        let checked = cidrs.map(|cidr| match address(cidr) {
            Some(_) => Ok(cidr.to_owned()),
            None => Err(format!("{cidr:?} is not a CIDR such as 10.1.0.0/24")),
        });
        Ok(PodCidrs(checked.collect::<Result<_, _>>()?))
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cidrs_are_taken_for_cidrs() {
        for good in ["10.1.0.0/24", "fd00::/64", " 10.0.0.0/8", "10.1.0.0/24, fd00::/64"] {
            assert!(PodCidrs::parse(good).is_ok(), "{good}");
        }
        for bad in ["10.1.0.0", "10.1.0.0/33", "x/8", "fd00::/129", "/", "10.1.0.0/24,x"] {
            assert!(PodCidrs::parse(bad).unwrap_err().contains("is not a CIDR"), "{bad}");
        }
        assert_eq!(PodCidrs::parse(""), Ok(PodCidrs::default()));
        let both = PodCidrs::parse("10.1.0.0/24, fd00::/64").unwrap();
        assert_eq!(both.iter().collect::<Vec<_>>(), ["10.1.0.0/24", "fd00::/64"]);
    }
}
