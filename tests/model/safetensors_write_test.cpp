#include "core/model/safetensors.hpp"

#include "tests/model/temporary_folder.hpp"

#include <doctest/doctest.h>
#include <fstream>
#include <iterator>
#include <random>

using namespace moira;

namespace {

constexpr tensor_type all_types[] = {tensor_type::f32,     tensor_type::f16, tensor_type::bf16, tensor_type::f8_e4m3,
                                     tensor_type::f8_e5m2, tensor_type::f64, tensor_type::i64,  tensor_type::i32,
                                     tensor_type::i16,     tensor_type::i8,  tensor_type::u8,   tensor_type::boolean};

std::string read_all(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

/// Tensors of random names, types, shapes and bytes; `storage` keeps the bytes.
std::vector<tensor_to_write> random_tensors(std::mt19937_64& random, std::vector<std::vector<std::byte>>& storage) {
    const auto below = [&](std::uint64_t n) { return random() % n; };
    std::vector<tensor_to_write> tensors(below(12));
    storage.resize(tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        auto& tensor = tensors[i];
        tensor.name = std::to_string(i) + std::string(below(20), "a.\"\\/\x01"[below(6)]);
        tensor.type = all_types[below(std::size(all_types))];
        std::size_t bytes = tensor_type_bytes(tensor.type);
        for (auto dimensions = below(5); dimensions > 0; --dimensions) {
            tensor.shape.push_back(static_cast<std::int64_t>(below(5)));
            bytes *= static_cast<std::size_t>(tensor.shape.back());
        }
        storage[i].resize(bytes);
        for (auto& byte : storage[i])
            byte = static_cast<std::byte>(random());
        tensor.bytes = storage[i];
    }
    return tensors;
}

} // namespace

TEST_CASE("random tensors come back as they were written, aligned to their elements") {
    const temporary_folder folder;
    const auto path = folder.path() / "t.safetensors";
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        CAPTURE(seed);
        std::mt19937_64 random(seed);
        std::vector<std::vector<std::byte>> storage;
        const auto tensors = random_tensors(random, storage);
        const std::map<std::string, std::string> metadata = {{"seed", std::to_string(seed)}, {"quote", "\"\n\\"}};
        REQUIRE(write_safetensors(path, tensors, metadata));
        const auto header = read_safetensors_header(path);
        REQUIRE_MESSAGE(header, header.error().message);
        CHECK(header->tensors.size() == tensors.size());
        CHECK(header->metadata.at("quote") == metadata.at("quote"));
        const auto file = read_all(path);
        for (const auto& tensor : tensors) {
            const auto& found = header->tensors.at(tensor.name);
            CHECK(found.type == tensor.type);
            CHECK(found.shape == tensor.shape);
            REQUIRE(found.bytes == tensor.bytes.size());
            CHECK(found.offset % tensor_type_bytes(tensor.type) == 0);
            CHECK(std::equal(tensor.bytes.begin(), tensor.bytes.end(),
                             reinterpret_cast<const std::byte*>(file.data()) + found.offset));
        }
    }
}

TEST_CASE("the data of a written file begins 8-byte aligned and nothing is left beside it") {
    const temporary_folder folder;
    const std::array<std::byte, 3> bytes{std::byte{1}, std::byte{2}, std::byte{3}};
    const auto path = folder.path() / "t.safetensors";
    REQUIRE(write_safetensors(path, {{"t", tensor_type::u8, {3}, bytes}}));
    CHECK(read_safetensors_header(path)->tensors.at("t").offset % 8 == 0);
    const std::filesystem::directory_iterator entries(folder.path());
    CHECK(std::distance(begin(entries), end(entries)) == 1);
}

TEST_CASE("tensors that contradict themselves are refused and write nothing") {
    const temporary_folder folder;
    const auto path = folder.path() / "t.safetensors";
    const std::array<std::byte, 4> bytes{};
    const auto code = [&](std::vector<tensor_to_write> tensors) {
        return write_safetensors(path, tensors).error().code;
    };
    CHECK(code({{"t", tensor_type::f32, {2}, bytes}}) == errc::invalid_argument);
    CHECK(code({{"t", tensor_type::f32, {-1}, bytes}}) == errc::invalid_argument);
    CHECK(code({{"t", tensor_type::u8, {1LL << 62, 8}, bytes}}) == errc::invalid_argument);
    CHECK(code({{"t", tensor_type::f32, {1}, bytes}, {"t", tensor_type::f32, {1}, bytes}}) == errc::invalid_argument);
    CHECK(code({{"__metadata__", tensor_type::f32, {1}, bytes}}) == errc::invalid_argument);
    CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("a folder that is not there is an io error") {
    const std::array<std::byte, 4> bytes{};
    const temporary_folder folder;
    CHECK(write_safetensors(folder.path() / "absent" / "t", {{"t", tensor_type::f32, {1}, bytes}}).error().code ==
          errc::io_error);
}
