//! `@verifyCC`, `@verifyCPF`, `@verifySSN`, `@verifySVNR`: a pattern finds candidates, arithmetic confirms them.

use super::pattern::{Pattern, Search};

/// Most candidates looked at in one value. A pattern that matches at every byte would cost the square of the length otherwise.
pub const MAX_CANDIDATES: usize = 1024;

/// Which numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberKind {
    /// Payment cards: the check digit of ISO/IEC 7812 (Luhn).
    PaymentCard,
    /// Brazil's taxpayer number: eleven digits, the last two check.
    Cpf,
    /// The United States' social security number, as issued until 2011 (areas up to 739).
    Ssn,
    /// Austria's social insurance number: ten digits, the fourth checks.
    Svnr,
}

/// The first candidate that holds, as a range of the value. Matches may overlap: the search goes on one byte after
/// the start of each candidate that does not hold.
///
/// # Errors
/// [`Search`] when there is none or the pattern takes too many steps.
pub(super) fn find(kind: NumberKind, pattern: &Pattern, value: &[u8]) -> Result<(usize, usize), Search> {
    let mut from = 0;
    for _ in 0..MAX_CANDIDATES {
        let (start, end) = pattern.find_from(value, from)?;
        if holds(kind, &value[start..end]) {
            return Ok((start, end));
        }
        from = start + 1;
    }
    Err(Search::NotFound)
}

fn holds(kind: NumberKind, candidate: &[u8]) -> bool {
    let digits = candidate.iter().filter(|byte| byte.is_ascii_digit()).map(|digit| u32::from(digit - b'0'));
    if kind == NumberKind::PaymentCard {
        return passes_luhn(digits);
    }
    let mut number = [0; 11];
    let mut length = 0;
    for digit in digits {
        match number.get_mut(length) {
            Some(place) => *place = digit,
            None => return false,
        }
        length += 1;
    }
    match kind {
        NumberKind::PaymentCard => false,
        NumberKind::Cpf => length == 11 && is_cpf(&number),
        NumberKind::Ssn => length == 9 && is_ssn(&number[..9]),
        NumberKind::Svnr => length == 10 && is_svnr(&number[..10]),
    }
}

/// Both parities are summed on the way, for it is known only at the end which digits are doubled.
fn passes_luhn(digits: impl Iterator<Item = u32>) -> bool {
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let (mut odd, mut even, mut count) = (0, 0, 0_usize);
    for digit in digits {
        if count.is_multiple_of(2) {
            odd += digit;
            even += doubled(digit);
        } else {
            odd += doubled(digit);
            even += digit;
        }
        count += 1;
    }
    let sum = if count.is_multiple_of(2) { even } else { odd };
    count > 0 && sum.is_multiple_of(10)
}

fn all_equal(digits: &[u32]) -> bool {
    digits.windows(2).all(|pair| pair[0] == pair[1])
}

fn number_of(digits: &[u32]) -> u32 {
    digits.iter().fold(0, |number, digit| number * 10 + digit)
}

fn is_cpf(digits: &[u32; 11]) -> bool {
    let check = |length: usize| {
        let sum: u32 = (0..length).map(|place| digits[place] * (length + 1 - place) as u32).sum();
        sum * 10 % 11 % 10
    };
    !all_equal(digits) && check(9) == digits[9] && check(10) == digits[10]
}

fn is_ssn(digits: &[u32]) -> bool {
    let (area, group, serial) = (number_of(&digits[..3]), number_of(&digits[3..5]), number_of(&digits[5..]));
    let ascending = digits.windows(2).all(|pair| pair[1] == pair[0] + 1);
    !ascending && !all_equal(digits) && area != 0 && area != 666 && area < 740 && group != 0 && serial != 0
}

fn is_svnr(digits: &[u32]) -> bool {
    const WEIGHTS: [u32; 10] = [3, 7, 9, 0, 5, 8, 4, 2, 1, 6];
    let sum: u32 = WEIGHTS.iter().zip(digits).map(|(weight, digit)| weight * digit).sum();
    !all_equal(digits) && sum % 11 == digits[3]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        use NumberKind::{Cpf, PaymentCard, Ssn, Svnr};
        let card = r"\d{4}[- ]?\d{4}[- ]?\d{4}[- ]?\d{4}";
        for (kind, pattern, value, expected) in [
            (PaymentCard, card, "pay 4111-1111-1111-1111 now", Some("4111-1111-1111-1111")),
            (PaymentCard, card, "pay 4111-1111-1111-1112 now", None),
            (PaymentCard, card, "94111111111111111", Some("4111111111111111")),
            (PaymentCard, r"\d+", "79927398713", Some("79927398713")),
            (PaymentCard, "x", "x", None),
            (Cpf, r"\d{3}\.\d{3}\.\d{3}-\d{2}", "010.817.514-60", Some("010.817.514-60")),
            (Cpf, r"\d{3}\.\d{3}\.\d{3}-\d{2}", "010.817.514-61", None),
            (Cpf, r"\d{11}", "11111111111", None),
            (Ssn, r"\d{3}-?\d{2}-?\d{4}", "x 574-57-8065", Some("574-57-8065")),
            (Ssn, r"\d{9}", "666578065", None),
            (Ssn, r"\d{9}", "740578065", None),
            (Ssn, r"\d{9}", "574008065", None),
            (Ssn, r"\d{9}", "123456789", None),
            (Svnr, r"\d{4} ?\d{6}", "1237 010180", Some("1237 010180")),
            (Svnr, r"\d{4} ?\d{6}", "1238 010180", None),
        ] {
            let pattern = Pattern::new(pattern.as_bytes()).expect("compiles");
            let got = find(kind, &pattern, value.as_bytes()).ok().map(|(start, end)| &value[start..end]);
            assert_eq!(got, expected, "{kind:?} in {value}");
        }
    }

    #[test]
    fn candidates_are_bounded() {
        let pattern = Pattern::new(br"\d+").expect("compiles");
        let value = vec![b'1'; 20_001];
        assert!(find(NumberKind::Ssn, &pattern, &value).is_err());
    }
}
