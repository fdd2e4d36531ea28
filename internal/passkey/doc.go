// Package passkey makes passkeys and checks the proofs of those who have one (W3C Web Authentication, Level 3: "WebAuthn").
//
// It is the only package that knows the library. What is sent to browsers and comes from them is JSON; the form is that of
// PublicKeyCredentialCreationOptionsJSON, PublicKeyCredentialRequestOptionsJSON, RegistrationResponseJSON and AuthenticationResponseJSON (§5.1),
// with no extensions. Authenticators must know who uses them (user verification) and keep the passkey themselves (discoverable), so that one
// stands for two factors and no name is typed. Attestation is not asked for.
//
// It keeps nothing, and decides nothing but whether a proof is right: who may try, and how often, is others' matter. Challenges are the caller's: each
// is random and good for one proof.
package passkey
