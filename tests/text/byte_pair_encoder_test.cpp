#include "core/text/byte_level.hpp"
#include "core/text/byte_pair_encoder.hpp"

#include <doctest/doctest.h>
#include <random>

namespace {

using ids = std::vector<moira::token_id>;

/// Tokens: a = 0, b = 1, c = 2, then the merges' results.
moira::byte_pair_encoder letters(const std::vector<moira::byte_pair_encoder::merge>& merges) {
    moira::byte_pair_encoder encoder;
    for (int i = 0; i < 3; ++i)
        encoder.set_byte_token(static_cast<unsigned char>('a' + i), i);
    encoder.set_merges(merges);
    return encoder;
}

ids encode(const moira::byte_pair_encoder& encoder, std::string_view piece) {
    moira::byte_pair_encoder::scratch memory;
    ids found;
    encoder.encode(piece, memory, found);
    return found;
}

/// The definition: merge the lowest rank, leftmost, until nothing merges.
ids encode_slowly(const std::vector<moira::byte_pair_encoder::merge>& merges, std::string_view piece) {
    ids symbols;
    for (const char c : piece)
        symbols.push_back(c - 'a');
    for (bool again = true; again;) {
        again = false;
        for (const auto& merge : merges)
            for (std::size_t i = 0; i + 1 < symbols.size() && !again; ++i)
                if (symbols[i] == merge.left && symbols[i + 1] == merge.right) {
                    symbols[i] = merge.merged;
                    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(i) + 1);
                    again = true;
                }
    }
    return symbols;
}

} // namespace

TEST_CASE("the lowest rank merges first, then the leftmost") {
    const auto encoder = letters({{1, 2, 3}, {0, 1, 4}, {0, 0, 5}});
    CHECK(encode(encoder, "abc") == ids{0, 3});
    CHECK(encode(encoder, "ab") == ids{4});
    CHECK(encode(encoder, "aaa") == ids{5, 0});
    CHECK(encode(encoder, "").empty());
}

TEST_CASE("merging with a heap equals the definition on random pieces") {
    const std::vector<moira::byte_pair_encoder::merge> merges = {{0, 1, 3}, {1, 0, 4}, {3, 2, 5}, {3, 3, 6},
                                                                 {0, 0, 7}, {7, 7, 8}, {6, 5, 9}, {2, 4, 10}};
    const auto encoder = letters(merges);
    std::mt19937 random(3);
    for (int i = 0; i < 5'000; ++i) {
        std::string piece;
        for (auto length = random() % 16; length > 0; --length)
            piece += static_cast<char>('a' + random() % 3);
        CAPTURE(piece);
        CHECK(encode(encoder, piece) == encode_slowly(merges, piece));
    }
}

TEST_CASE("bytes without a token are left out, or become the unknown token") {
    auto encoder = letters({{0, 1, 3}});
    CHECK(encode(encoder, "xaxb") == ids{3});
    encoder.set_unknown(9, false);
    CHECK(encode(encoder, "xxab") == ids{9, 9, 3});
    encoder.set_unknown(9, true);
    CHECK(encode(encoder, "xxaxb") == ids{9, 0, 9, 1});
}

TEST_CASE("every byte survives the byte-level alphabet") {
    for (int byte = 0; byte < 256; ++byte) {
        const std::string one(1, static_cast<char>(byte));
        CHECK(moira::from_byte_level(moira::to_byte_level(one)) == one);
    }
    CHECK(moira::to_byte_level(" \n") == "\u0120\u010A");
    CHECK(moira::from_byte_level("<｜User｜>") == "<｜User｜>");
    CHECK(moira::from_byte_level("a b") == "a b");
}
