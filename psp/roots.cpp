// SPDX-License-Identifier: Apache-2.0
#include "psp/roots.hpp"

#include <array>

namespace sev::psp {
namespace {

/// SIGNATURE of the Naples ARK, which AMD's ask_ark_naples.cert leaves out: 256 bytes, little-endian, public. Source: the whole certificate in
/// virtee/sev (src/certs/sev/builtin/naples). It is the ARK's signature over itself, so that a wrong byte here could only make it fail.
constexpr std::string_view naples_ark_signature =
    "82e5ad8cb8acf04bb0f4f04165f3b9f871afa4d1865add11d783ac6198bc1323c2685941fd76422917592353431e1174caf64495e3b7cc01aafdaac0641530d7"
    "df731b89902c96c778d19a679a0fd48691599d977f4cb1f421b954e3ae63b178d255cf50547b9170d15329959119c092ac8abfe54a8a17d0c1d42287a4b00ede"
    "d120bc4c2b9407d1851e0f936c1fbdcbeb7b7cf1d618466d6fd31773b65600dfbf7ff6edcbfbfec021bbebde1aa4b0701045a1b48db056e9736a8e75cf137b8d"
    "3e75009aad5a8d2687f9c0697454804d673c491bce7d09ea8da383eb5b987710623b5d1aae772f0e0468897f5bf236cc356a5003f7a49e2c1639fed635427c55";

Root amd_root(std::string_view label, Product product, std::string_view fingerprint) {
    return {.label = std::string{label}, .product = product, .fingerprint = unhex<32>(fingerprint), .amd = true};
}

} // namespace

// Each fingerprint is SHA-256 over the bytes that the ARK's own signature covers (576 of Naples, 1088 of the others). Taken from the ARK
// certificates that AMD publishes with the ASK as ask_ark_PRODUCT.cert, as virtee/sev has them built in (src/certs/sev/builtin); computed with
// Python's hashlib:
//   hashlib.sha256(ark[:0x40 + 2 * int.from_bytes(ark[0x3c:0x40], "little") // 8]).hexdigest()
const std::vector<Root>& amd_roots() {
    static const std::vector<Root> roots{
        amd_root("AMD ARK Naples", Product::naples, "8efddcaaf84990cf6354d93637be270220cf15797332b3d918c3b8cc77349f31"),
        amd_root("AMD ARK Rome", Product::rome, "ae2456af6c6ad234badd6c75e58915be61568286766083853bf668e6e23977c3"),
        amd_root("AMD ARK Milan", Product::milan, "263b13fd3170c6ffbb0b4f01f09848dc08a8dc1e9637d47e42cbe6c135e4af12"),
        amd_root("AMD ARK Genoa", Product::genoa, "973df6265e1b40cf8883305c1f6a6cd254979446acb40bd396946b2f19e751e9"),
        amd_root("AMD ARK Turin", Product::turin, "89327696f8082b20f5a588565adc26d478e1c6d56153c1de656e63396b8f8e20"),
    };
    return roots;
}

std::span<const ProductIds> product_ids() {
    static const std::array ids{
        ProductIds{Product::naples, unhex<16>("1bb987c359494606b174945601c9ea5b"), unhex<16>("e139970cfc464377ae61b289e2f9e96e")},
        ProductIds{Product::rome, unhex<16>("e6002122fb58419399d15fee7b131351"), unhex<16>("c6cbcf145b3146f498e40ecb4ad4fded")},
        ProductIds{Product::milan, unhex<16>("94c38e4177d0479292a7ae671d083fb6"), unhex<16>("73478c05cc174bfeb06e718fa75dc3c8")},
        ProductIds{Product::genoa, unhex<16>("9f9d4a8fe761456599f6946c4c010f3a"), unhex<16>("acbb4ad21acc436fb3e932f812cd01b0")},
        ProductIds{Product::turin, unhex<16>("d05c3a8bde484904b49552422ceb3942"), unhex<16>("15051693f7304d65a527b4a7f3f7cb77")},
    };
    return ids;
}

const ProductIds& ids_of(Product product) {
    const auto found = std::ranges::find(product_ids(), product, &ProductIds::product);
    require(found != product_ids().end(), "every product has its KEY_IDs");
    return *found;
}

std::optional<Product> product_of(const ByteArray<16>& key_id) {
    for (const ProductIds& ids : product_ids()) {
        if (key_id == ids.ark || key_id == ids.ask) return ids.product;
    }
    return std::nullopt;
}

CaCertificate completed(CaCertificate certificate) {
    if (certificate.signature || certificate.key_id != naples_ark_key_id) return certificate;
    const auto naples = std::ranges::find(amd_roots(), Product::naples, &Root::product);
    if (certificate.fingerprint() == naples->fingerprint) certificate.signature = unhex_exactly(naples_ark_signature, 256, "Naples ARK signature");
    return certificate;
}

} // namespace sev::psp
