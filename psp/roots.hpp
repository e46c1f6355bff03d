// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "psp/chain.hpp"

namespace sev::psp {

/// KEY_IDs of one product's ARK and ASK, in file order.
struct ProductIds {
    Product product;
    ByteArray<16> ark, ask;
};
/// AMD's KEY_IDs, by product. Source: AMD's ask_ark_*.cert files.
std::span<const ProductIds> product_ids();
const ProductIds& ids_of(Product product);
/// The product whose ARK or ASK bears this KEY_ID; nullopt for an unknown one.
std::optional<Product> product_of(const ByteArray<16>& key_id);

/// KEY_ID of the one ARK that AMD publishes without its signature.
inline constexpr ByteArray<16> naples_ark_key_id{0x1b, 0xb9, 0x87, 0xc3, 0x59, 0x49, 0x46, 0x06, 0xb1, 0x74, 0x94, 0x56, 0x01, 0xc9, 0xea, 0x5b};

} // namespace sev::psp
