#include "services/common/base/digest.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

err_t digest_spans(const struct span *spans, size_t count, struct digest *ret)
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1;
    for (size_t i = 0; good && i < count; i++) good = EVP_DigestUpdate(ctx, spans[i].data, spans[i].size) == 1;
    good = good && EVP_DigestFinal_ex(ctx, raw, &size) == 1 && size == 32;
    EVP_MD_CTX_free(ctx);
    if (!good) return err_set(ERR_memory, "SHA-256 is not available");
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 32; i++) {
        ret->hex[2 * i] = digits[raw[i] >> 4];
        ret->hex[2 * i + 1] = digits[raw[i] & 15];
    }
    ret->hex[64] = 0;
    return ERR_ok;
}

err_t digest_bytes(struct span bytes, struct digest *ret)
{
    return digest_spans(&bytes, 1, ret);
}

err_t random_bytes(void *ret, size_t size)
{
    if (size > 4096 || RAND_bytes(ret, (int)size) != 1) return err_set(ERR_io, "no randomness from OpenSSL");
    return ERR_ok;
}
