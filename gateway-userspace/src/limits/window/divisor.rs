//! Division by a number that is known long before: a multiplication, where a division takes as long as twenty of them.

/// A number to divide by, 1 or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Divisor {
    value: u64,
    /// 2^64 / value, rounded down and less than 2^64.
    inverse: u64,
}

impl Divisor {
    /// To divide by `value`; zero counts as one.
    pub(super) fn new(value: u64) -> Self {
        let value = if value == 0 { 1 } else { value };
        Self { value, inverse: u64::MAX / value }
    }

    /// The number itself.
    #[inline]
    pub(super) fn get(self) -> u64 {
        self.value
    }

    /// `number / self`, rounded down: exact for every number.
    #[inline]
    pub(super) fn divide(self, number: u64) -> u64 {
        // At most two too small: what is lacking from the inverse is less than 1 + 1 / value.
        let mut quotient = ((u128::from(number) * u128::from(self.inverse)) >> 64) as u64;
        let mut rest = number - quotient * self.value;
        while rest >= self.value {
            rest -= self.value;
            quotient += 1;
        }
        quotient
    }
}

#[cfg(test)]
mod tests {
    use super::Divisor;

    #[test]
    fn it_divides_like_the_processor() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed >> (seed % 64)
        };
        let edges = [0, 1, 2, 3, 61_035_157, 1 << 32, u64::MAX / 2, u64::MAX - 1, u64::MAX];
        let check = |number: u64, value: u64| {
            let by = Divisor::new(value);
            assert_eq!(by.divide(number), number / value.max(1), "{number} / {value}");
        };
        for number in edges {
            for value in edges {
                check(number, value);
            }
        }
        for _ in 0..200_000 {
            let (number, value) = (random(), random());
            check(number, value);
            check(number, number);
        }
    }
}
