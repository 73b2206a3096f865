//! The second factor: codes of an app (TOTP, RFC 6238), and recovery codes for when the app is lost.
//!
//! The secret is sealed in the vault for its person. Each step's code is good once, for all copies together.

use chrono::Utc;
use pinacle_store::{AccountFactorRow, AccountRow};
use qrcode::{EcLevel, QrCode, render::svg};
use rand::RngExt;
use totp_rs::{Builder, Totp};
use tracing::info;
use zeroize::Zeroizing;

use super::{Accounts, token};
use crate::problem::{Code, Problem};

const PURPOSE: &str = "totp";
const SECRET_BYTES: usize = 20;
const RECOVERY_CODES: usize = 10;
/// Letters of a recovery code: 100 random bits, without those that look like others.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
const LETTERS_EACH: usize = 20;

/// A second factor that is to be confirmed.
pub struct Begun {
    /// The secret in base 32, to type.
    pub secret: String,
    /// The same as an address that apps open.
    pub url: String,
    /// The address as a picture for an app's camera, in SVG.
    pub qr_svg: String,
}

/// Whether somebody has a second factor.
pub struct FactorState {
    /// Whether it is asked for.
    pub is_on: bool,
    /// Recovery codes that are left.
    pub recovery_codes: u64,
}

impl Accounts {
    /// Asks for the second factor of whoever has one.
    ///
    /// # Errors
    /// [`Code::SecondFactorNeeded`] without a code, [`Code::WrongCode`] with one that is not good (any more).
    pub async fn check_factor(&self, account: &AccountRow, code: Option<&str>) -> Result<(), Problem> {
        let found = self.database.factor_find(&account.user_id).await?;
        let Some(row) = found.filter(|row| row.confirmed_at.is_some()) else { return Ok(()) };
        let Some(code) = code else {
            return Err(Problem::new(Code::SecondFactorNeeded, Code::SecondFactorNeeded.explanation()));
        };
        if self.takes(account, &row, code).await? { Ok(()) } else { Err(wrong()) }
    }

    /// Whether a person has a second factor.
    ///
    /// # Errors
    /// When that cannot be told now.
    pub async fn factor_state(&self, account: &AccountRow) -> Result<FactorState, Problem> {
        let found = self.database.factor_find(&account.user_id).await?;
        let recovery_codes = self.database.recovery_codes_left(&account.user_id).await?;
        Ok(FactorState { is_on: found.is_some_and(|row| row.confirmed_at.is_some()), recovery_codes })
    }

    /// Makes a secret, which counts once it is confirmed. Takes the password, so that a session that somebody left open
    /// is not enough.
    ///
    /// # Errors
    /// When the password is not right, or there is a second factor already.
    pub async fn begin_factor(&self, account: &AccountRow, password: String) -> Result<Begun, Problem> {
        self.check_own_password(account, "password", password).await?;
        let secret: Zeroizing<[u8; SECRET_BYTES]> = Zeroizing::new(rand::rng().random());
        let totp = totp(account, secret.as_slice())?;
        let url = totp.to_url().map_err(|error| Problem::internal(Code::Internal, "write a key's address", &error))?;
        let sealed = self.vault.seal(&account.user_id, PURPOSE, &account.user_id, secret.as_slice()).await?;
        if !self.database.factor_begin(&account.user_id, &sealed).await? {
            return Err(Problem::new(Code::SecondFactorOn, Code::SecondFactorOn.explanation()));
        }
        Ok(Begun { secret: totp.secret().to_base32(), qr_svg: picture(&url)?, url })
    }

    /// Confirms a secret by a code of it; returns the recovery codes, which are shown once.
    ///
    /// # Errors
    /// When the code is not good, or nothing is to be confirmed.
    pub async fn confirm_factor(&self, account: &AccountRow, code: &str) -> Result<Vec<String>, Problem> {
        let found = self.database.factor_find(&account.user_id).await?;
        let row = found.filter(|row| row.confirmed_at.is_none()).ok_or_else(wrong)?;
        let step = self.step_of(account, &row, code).await?.ok_or_else(wrong)?;
        let (codes, digests) = recovery_codes();
        if !self.database.factor_confirm(&row, step, &digests, Utc::now()).await? {
            return Err(wrong());
        }
        info!(user_id = account.user_id, "somebody switched their second factor on");
        Ok(codes)
    }

    /// Makes new recovery codes, which are shown once; those before are good no more.
    ///
    /// # Errors
    /// When the password is not right, or there is no second factor.
    pub async fn new_recovery_codes(&self, account: &AccountRow, password: String) -> Result<Vec<String>, Problem> {
        self.check_own_password(account, "password", password).await?;
        let (codes, digests) = recovery_codes();
        if !self.database.recovery_codes_replace(&account.user_id, &digests).await? {
            return Err(Problem::new(Code::SecondFactorOff, Code::SecondFactorOff.explanation()));
        }
        info!(user_id = account.user_id, "somebody made new recovery codes");
        Ok(codes)
    }

    /// Takes the second factor away, for who has the password and a code.
    ///
    /// # Errors
    /// When one of them is not right.
    pub async fn remove_factor(&self, account: &AccountRow, password: String, code: &str) -> Result<(), Problem> {
        self.check_own_password(account, "password", password).await?;
        self.check_factor(account, Some(code)).await?;
        self.database.factor_remove(&account.user_id).await?;
        info!(user_id = account.user_id, "somebody switched their second factor off");
        Ok(())
    }

    /// Whether a code is good now; it is not afterwards.
    async fn takes(&self, account: &AccountRow, row: &AccountFactorRow, code: &str) -> Result<bool, Problem> {
        if let Some(step) = self.step_of(account, row, code).await? {
            return Ok(self.database.factor_step_take(&row.user_id, step).await?);
        }
        match token::digest(&plain(code)) {
            Some(digest) => Ok(self.database.recovery_code_take(&row.user_id, &digest).await?),
            None => Ok(false),
        }
    }

    /// The step whose code this is, of the one now and those beside it.
    async fn step_of(&self, account: &AccountRow, row: &AccountFactorRow, code: &str) -> Result<Option<i64>, Problem> {
        let code = plain(code);
        if code.len() != 6 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(None);
        }
        let secret = self.vault.open(&row.user_id, PURPOSE, &row.user_id, &row.secret).await?;
        let now = u64::try_from(Utc::now().timestamp()).unwrap_or_default();
        let step = totp(account, secret.as_slice())?.check(&code, now);
        Ok(step.and_then(|step| i64::try_from(step).ok()))
    }
}

fn wrong() -> Problem {
    Problem::field(Code::WrongCode, "code", "is not good, or not any more")
}

/// What all apps know: SHA-1, six digits, thirty seconds. A clock may be off by one step.
fn totp(account: &AccountRow, secret: &[u8]) -> Result<Totp, Problem> {
    Builder::new()
        .with_secret(secret.to_vec())
        .with_issuer(Some("Pinacle"))
        .with_account_name(account.email.as_str())
        .build()
        .map_err(|error| Problem::internal(Code::Internal, "make a second factor", &error))
}

/// Dark on light, also where the page is dark: cameras want it so.
fn picture(url: &str) -> Result<String, Problem> {
    let code = QrCode::with_error_correction_level(url, EcLevel::M);
    let code = code.map_err(|error| Problem::internal(Code::Internal, "draw a key's address", &error))?;
    let mut drawn = code.render::<svg::Color<'_>>();
    Ok(drawn.dark_color(svg::Color("#000000")).light_color(svg::Color("#ffffff")).min_dimensions(240, 240).build())
}

/// New recovery codes, and what is kept of them.
fn recovery_codes() -> (Vec<String>, Vec<Vec<u8>>) {
    let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| recovery_code()).collect();
    let digests = codes.iter().filter_map(|code| token::digest(&plain(code))).collect();
    (codes, digests)
}

/// Four groups of five letters.
fn recovery_code() -> String {
    let bytes: [u8; LETTERS_EACH] = rand::rng().random();
    let mut code = String::with_capacity(LETTERS_EACH + 3);
    for (index, byte) in bytes.into_iter().enumerate() {
        if index > 0 && index % 5 == 0 {
            code.push('-');
        }
        // 256 is a multiple of 32, so each letter is as likely.
        let letter = LETTERS.get(usize::from(byte) % LETTERS.len()).copied().unwrap_or(b'a');
        code.push(char::from(letter));
    }
    code
}

/// A code as it is compared: people type spaces, dashes and capitals.
fn plain(code: &str) -> String {
    code.chars().filter(|letter| letter.is_alphanumeric()).collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_reads_the_keys_address_out_of_its_picture() {
        let url = "otpauth://totp/Pinacle:someone%40example.org?secret=LYABSVTDUZQYLB2A42SRJZTWI6V73A3E&issuer=Pinacle";
        let drawn = picture(url).unwrap();
        let after = |mark: &str| drawn.split(mark).nth(1).unwrap().split('"').next().unwrap();
        let size: usize = after(" width=\"").parse().unwrap();
        let mut dark = vec![false; size * size];
        for rectangle in after(" d=\"").split('M').skip(1) {
            let numbers = rectangle.split(|letter: char| !letter.is_ascii_digit()).map(|text| text.parse().unwrap());
            let numbers: Vec<usize> = numbers.collect();
            let [left, top, width, height, ..] = numbers[..] else { panic!("{rectangle}") };
            for y in top..top + height {
                dark[y * size..][left..left + width].fill(true);
            }
        }
        let seen = |x: usize, y: usize| if dark[y * size + x] { 0 } else { 255 };
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(size, size, seen);
        assert_eq!(image.detect_grids()[0].decode().unwrap().1, url);
    }

    #[test]
    fn recovery_codes_are_unlike_and_found_however_they_are_typed() {
        let code = recovery_code();
        assert_eq!((code.len(), code.split('-').count()), (23, 4), "{code}");
        assert_ne!(code, recovery_code());
        assert_eq!(plain(&code), plain(&code.to_uppercase().replace('-', " ")));
    }
}
