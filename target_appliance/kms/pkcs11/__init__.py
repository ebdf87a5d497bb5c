"""The PKCS#11 driver: KEKs in a token (an HSM, or SoftHSM), used through its vendor's library in this process."""
