#include "core/route/route_trace.hpp"
#include "tests/experts/temporary_folder.hpp"

#include <cstring>
#include <doctest/doctest.h>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>

using namespace moira;

namespace {

/// Two layers of five experts, top 2: a sequence of three tokens and one of one.
route_trace small_trace(std::uint32_t hidden) {
    route_trace trace{.layers = 2, .experts = 300, .top_k = 2, .hidden = hidden, .layer_numbers = {1, 7}};
    for (const std::uint32_t tokens : {3U, 1U}) {
        route_sequence made{.tokens = tokens, .prompt_tokens = tokens / 2};
        for (std::uint32_t i = 0; i < tokens * 2 * 2; ++i) {
            made.ids.push_back(static_cast<std::uint16_t>(299 - i));
            made.weights.push_back(1.0F / static_cast<float>(1U << i));
        }
        for (std::uint32_t i = 0; i < tokens * 2 * hidden; ++i)
            made.hidden.push_back(static_cast<std::uint16_t>(i * 77));
        trace.sequences.push_back(std::move(made));
    }
    return trace;
}

std::vector<std::byte> bytes_of(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    std::vector<std::byte> bytes(text.size());
    std::memcpy(bytes.data(), text.data(), text.size());
    return bytes;
}

errc code_of(const std::vector<std::byte>& bytes) {
    const auto read = parse_route_trace(bytes, "memory");
    REQUIRE_FALSE(read);
    return read.error().code;
}

template <class T>
void append(std::string& bytes, const std::vector<T>& values) {
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

std::vector<std::byte> first_format(const std::vector<std::uint16_t>& header, std::uint32_t tokens,
                                    const std::vector<std::uint8_t>& ids, const std::vector<std::uint16_t>& weights) {
    std::string text = "MOEROUT1";
    append(text, header);
    append(text, std::vector<std::uint32_t>{tokens});
    append(text, ids);
    append(text, weights);
    std::vector<std::byte> bytes(text.size());
    std::memcpy(bytes.data(), text.data(), text.size());
    return bytes;
}

} // namespace

TEST_CASE("a recording comes back as it was written, with and without states") {
    const temporary_folder folder;
    for (const std::uint32_t hidden : {0U, 3U}) {
        const auto trace = small_trace(hidden);
        const auto path = folder.path() / "a.routes";
        REQUIRE(write_route_trace(trace, path));
        const auto read = read_route_trace(path);
        REQUIRE(read);
        CHECK(read->layers == 2);
        CHECK(read->experts == 300);
        CHECK(read->top_k == 2);
        CHECK(read->hidden == hidden);
        CHECK(read->layer_numbers == trace.layer_numbers);
        CHECK(read->tokens() == 4);
        REQUIRE(read->sequences.size() == 2);
        for (std::size_t i = 0; i < 2; ++i) {
            CHECK(read->sequences[i].tokens == trace.sequences[i].tokens);
            CHECK(read->sequences[i].prompt_tokens == trace.sequences[i].prompt_tokens);
            CHECK(read->sequences[i].ids == trace.sequences[i].ids);
            CHECK(read->sequences[i].weights == trace.sequences[i].weights);
            CHECK(read->sequences[i].hidden == trace.sequences[i].hidden);
        }
        // Nothing else is left in the folder.
        CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
    }
}

TEST_CASE("weights are rounded to the nearest float16, ties to even") {
    const temporary_folder folder;
    route_trace trace{.layers = 1, .experts = 8, .top_k = 8, .layer_numbers = {0}};
    const std::vector<float> given{
        1.0F + 0x1p-11F, 1.0F + 3 * 0x1p-11F, 0x1p-25F, 3 * 0x1p-25F, -0.1F, 65504.0F, 0.0F, 0x1p-14F * (1 - 0x1p-12F)};
    trace.sequences.push_back({.tokens = 1, .ids = {0, 1, 2, 3, 4, 5, 6, 7}, .weights = given});
    REQUIRE(write_route_trace(trace, folder.path() / "w"));
    const auto read = read_route_trace(folder.path() / "w");
    REQUIRE(read);
    const std::vector<float> expected{1.0F,     1.0F + 0x1p-9F, 0.0F,    0x1p-23F, -0.0999755859375F,
                                      65504.0F, 0.0F,           0x1p-14F};
    CHECK(read->sequences[0].weights == expected);
}

TEST_CASE("the first format is read: ids of one byte, layers counted from zero") {
    const auto bytes = first_format({1, 4, 2, 1}, 2, {3, 0, 1, 2}, {0x3c00, 0x3800, 0x3400, 0});
    const auto read = parse_route_trace(bytes, "memory");
    REQUIRE(read);
    CHECK(read->layer_numbers == std::vector<std::uint16_t>{0});
    REQUIRE(read->sequences.size() == 1);
    CHECK(read->sequences[0].ids == std::vector<std::uint16_t>{3, 0, 1, 2});
    CHECK(read->sequences[0].weights == std::vector<float>{1.0F, 0.5F, 0.25F, 0.0F});
    CHECK(read->sequences[0].prompt_tokens == 0);
}

TEST_CASE("every shortening, every flipped byte and every addition is refused") {
    const temporary_folder folder;
    REQUIRE(write_route_trace(small_trace(1), folder.path() / "a"));
    const auto whole = bytes_of(folder.path() / "a");
    REQUIRE(parse_route_trace(whole, "memory"));
    for (std::size_t size = 0; size < whole.size(); ++size)
        CHECK(code_of({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}) == errc::corrupt_file);
    for (std::size_t at = 0; at < whole.size(); ++at) {
        auto damaged = whole;
        damaged[at] ^= std::byte{0x10};
        CHECK(code_of(damaged) == errc::corrupt_file);
    }
    auto longer = whole;
    longer.push_back(std::byte{});
    CHECK(code_of(longer) == errc::corrupt_file);
}

TEST_CASE("claims beyond the file, unknown experts, repeated experts and weights that are no number are refused") {
    CHECK(code_of(first_format({1, 4, 2, 1}, 0xffffffffU, {3, 0}, {0, 0})) == errc::corrupt_file);
    CHECK(code_of(first_format({0xffff, 4, 2, 1}, 1, {3, 0}, {0, 0})) == errc::corrupt_file);
    CHECK(code_of(first_format({1, 257, 2, 1}, 1, {3, 0}, {0, 0})) == errc::corrupt_file);
    CHECK(code_of(first_format({1, 1, 2, 1}, 1, {0, 0}, {0, 0})) == errc::corrupt_file);
    CHECK(code_of(first_format({1, 4, 2, 1}, 1, {3, 4}, {0, 0})) == errc::corrupt_file);
    CHECK(code_of(first_format({1, 4, 2, 1}, 1, {3, 3}, {0, 0})) == errc::corrupt_file);
    CHECK(code_of(first_format({1, 4, 2, 1}, 1, {3, 2}, {0, 0x7c00})) == errc::corrupt_file);
    CHECK(code_of(first_format({1, 4, 2, 1}, 0, {}, {})) == errc::corrupt_file);
    CHECK(read_route_trace("/nowhere/at/all.routes").error().code == errc::not_found);
}

TEST_CASE("a recording that contradicts itself is not written and leaves what was there") {
    const temporary_folder folder;
    const auto path = folder.path() / "kept";
    REQUIRE(write_route_trace(small_trace(0), path));
    const auto before = bytes_of(path);
    const auto refused = [&](auto&& change) {
        auto trace = small_trace(1);
        change(trace);
        const auto written = write_route_trace(trace, path);
        REQUIRE_FALSE(written);
        CHECK(written.error().code == errc::invalid_argument);
        CHECK(bytes_of(path) == before);
    };
    refused([](route_trace& trace) { trace.top_k = 301; });
    refused([](route_trace& trace) { trace.layer_numbers = {7, 1}; });
    refused([](route_trace& trace) { trace.layer_numbers.pop_back(); });
    refused([](route_trace& trace) { trace.sequences[0].ids.pop_back(); });
    refused([](route_trace& trace) { trace.sequences[0].hidden.clear(); });
    refused([](route_trace& trace) { trace.sequences[0].prompt_tokens = 4; });
    refused([](route_trace& trace) { trace.sequences[1].ids[1] = trace.sequences[1].ids[0]; });
    refused([](route_trace& trace) { trace.sequences[1].ids[1] = 300; });
    refused([](route_trace& trace) { trace.sequences[0].weights[2] = std::numeric_limits<float>::quiet_NaN(); });
    refused([](route_trace& trace) { trace.sequences[0].weights[2] = 70000.0F; });
    CHECK(write_route_trace(small_trace(0), folder.path() / "no" / "folder").error().code == errc::io_error);
}
