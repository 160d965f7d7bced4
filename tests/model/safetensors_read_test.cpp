#include "core/model/safetensors.hpp"

#include "tests/model/temporary_folder.hpp"

#include <cstring>
#include <doctest/doctest.h>
#include <string>

using namespace moira;

namespace {

std::vector<std::byte> with_length(std::uint64_t length, std::string_view header) {
    std::vector<std::byte> bytes(8 + header.size());
    for (std::size_t i = 0; i < 8; ++i)
        bytes[i] = static_cast<std::byte>(length >> (8 * i));
    std::memcpy(bytes.data() + 8, header.data(), header.size());
    return bytes;
}

/// Parses a file that consists of this header and `data_bytes` of data.
result<safetensors_header> parse(std::string_view header, std::uint64_t data_bytes,
                                 const safetensors_limits& limits = {}) {
    const auto prefix = with_length(header.size(), header);
    return parse_safetensors_header(prefix, prefix.size() + data_bytes, "test", limits);
}

errc code_of(std::string_view header, std::uint64_t data_bytes) {
    const auto parsed = parse(header, data_bytes);
    REQUIRE_FALSE(parsed);
    return parsed.error().code;
}

} // namespace

TEST_CASE("a header gives names, types, shapes and absolute offsets") {
    const std::string header = R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],)"
                               R"("data_offsets":[4,16]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}  )";
    const auto parsed = parse(header, 16);
    REQUIRE_MESSAGE(parsed, parsed.error().message);
    CHECK(parsed->metadata.at("format") == "pt");
    REQUIRE(parsed->tensors.size() == 2);
    const auto& a = parsed->tensors.at("a");
    CHECK(a.type == tensor_type::f32);
    CHECK(a.shape.empty());
    CHECK(a.elements() == 1);
    CHECK(a.offset == 8 + header.size());
    CHECK(a.bytes == 4);
    const auto& b = parsed->tensors.at("b");
    CHECK(b.type == tensor_type::bf16);
    CHECK(b.shape == std::vector<std::int64_t>{2, 3});
    CHECK(b.offset == 8 + header.size() + 4);
    CHECK(b.bytes == 12);
}

TEST_CASE("every known type has its name and size") {
    for (const auto& [name, bytes] : std::vector<std::pair<std::string, std::size_t>>{{"F64", 8},
                                                                                      {"F32", 4},
                                                                                      {"F16", 2},
                                                                                      {"BF16", 2},
                                                                                      {"F8_E4M3", 1},
                                                                                      {"F8_E5M2", 1},
                                                                                      {"I64", 8},
                                                                                      {"I32", 4},
                                                                                      {"I16", 2},
                                                                                      {"I8", 1},
                                                                                      {"U8", 1},
                                                                                      {"BOOL", 1}}) {
        const auto parsed = parse(R"({"t":{"dtype":")" + name + R"(","shape":[3],"data_offsets":[0,)" +
                                      std::to_string(3 * bytes) + "]}}",
                                  3 * bytes);
        REQUIRE_MESSAGE(parsed, parsed.error().message);
        CHECK(tensor_type_name(parsed->tensors.at("t").type) == name);
        CHECK(tensor_type_bytes(parsed->tensors.at("t").type) == bytes);
    }
}

TEST_CASE("an empty model and an empty tensor are files too") {
    CHECK(parse("{}", 0));
    CHECK(parse(R"({"t":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]}})", 0));
}

TEST_CASE("a header length beyond the file is refused before anything is allocated") {
    for (const std::uint64_t length : {std::uint64_t{1} << 60, ~std::uint64_t{0}, std::uint64_t{3}}) {
        const auto prefix = with_length(length, "{}");
        const auto parsed = parse_safetensors_header(prefix, prefix.size(), "test");
        REQUIRE_FALSE(parsed);
        CHECK(parsed.error().code == errc::corrupt_file);
    }
    const auto prefix = with_length(200'000'000, "{}");
    CHECK(parse_safetensors_header(prefix, 1'000'000'000, "test").error().code == errc::corrupt_file);
}

TEST_CASE("a file shorter than its own length field is corrupt") {
    const std::vector<std::byte> few(7);
    CHECK(parse_safetensors_header(few, few.size(), "test").error().code == errc::corrupt_file);
    CHECK(parse_safetensors_header({}, 0, "test").error().code == errc::corrupt_file);
}

TEST_CASE("a header cut off at any byte is corrupt and never read beyond") {
    const std::string header = R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
    for (std::size_t kept = 0; kept < header.size(); ++kept)
        CHECK(code_of(header.substr(0, kept), 4) == errc::corrupt_file);
}

TEST_CASE("tensors that overlap, leave holes, lie outside or do not match their shape are corrupt") {
    const auto two = [](const char* first, const char* second) {
        return std::string(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)") + first +
               R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
    };
    CHECK(parse(two("[0,4]", "[4,8]"), 8));
    CHECK(parse(two("[4,8]", "[0,4]"), 8));
    CHECK(code_of(two("[0,4]", "[2,6]"), 8) == errc::corrupt_file);
    CHECK(code_of(two("[0,4]", "[0,4]"), 8) == errc::corrupt_file);
    CHECK(code_of(two("[0,4]", "[6,10]"), 10) == errc::corrupt_file);
    CHECK(code_of(two("[0,4]", "[4,8]"), 7) == errc::corrupt_file);
    CHECK(code_of(two("[0,4]", "[4,8]"), 9) == errc::corrupt_file);
    CHECK(code_of(two("[0,4]", "[8,4]"), 8) == errc::corrupt_file);
    CHECK(code_of(two("[0,4]", "[4,9]"), 9) == errc::corrupt_file);
    CHECK(code_of(two("[0,4]", "[4,18446744073709551615]"), 8) == errc::corrupt_file);
}

TEST_CASE("a shape whose bytes overflow is corrupt") {
    const auto shaped = [](const char* shape) {
        return std::string(R"({"t":{"dtype":"F32","shape":)") + shape + R"(,"data_offsets":[0,0]}})";
    };
    CHECK(code_of(shaped("[4611686018427387904]"), 0) == errc::corrupt_file);
    CHECK(code_of(shaped("[4294967296,4294967296]"), 0) == errc::corrupt_file);
    CHECK(code_of(shaped("[18446744073709551615]"), 0) == errc::corrupt_file);
    CHECK(code_of(shaped("[1,1,1,1,1,1,1,1,0]"), 0) == errc::corrupt_file);
}

TEST_CASE("an unknown type is unsupported, everything else unknown is corrupt") {
    CHECK(code_of(R"({"t":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}})", 1) == errc::unsupported);
    CHECK(code_of(R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}})", 1) == errc::corrupt_file);
}

TEST_CASE("a header of another form is corrupt") {
    for (const char* header : {
             "",
             "[]",
             "null",
             "7",
             "\"t\"",
             " {}",
             "{}{}",
             "{\"t\":1}",
             "{\"t\":[]}",
             "{\"t\":{}}",
             "{\"t\":null}",
             R"({"t":{"dtype":"U8","shape":[1]}})",
             R"({"t":{"dtype":"U8","data_offsets":[0,1]}})",
             R"({"t":{"shape":[1],"data_offsets":[0,1]}})",
             R"({"t":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})",
             R"({"t":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})",
             R"({"t":{"dtype":"U8","shape":[1e0],"data_offsets":[0,1]}})",
             R"({"t":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}})",
             R"({"t":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})",
             R"({"t":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})",
             R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0]}})",
             R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}})",
             R"({"t":{"dtype":"U8","shape":[1],"data_offsets":{"a":1}}})",
             R"({"t":{"dtype":1,"shape":[1],"data_offsets":[0,1]}})",
             R"({"__metadata__":{"a":1},"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
             R"({"__metadata__":[],"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
             "{\"\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
             R"({"t":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}})",
             R"({"t":{"dtype":"U8","shape":[99999999999999999999999],"data_offsets":[0,1]}})",
         }) {
        INFO(header);
        CHECK(code_of(header, 1) == errc::corrupt_file);
    }
}

TEST_CASE("names, fields and metadata that occur twice are corrupt") {
    const std::string tensor = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
    CHECK(code_of(R"({"t":)" + tensor + R"(,"t":)" + tensor + "}", 0) == errc::corrupt_file);
    CHECK(code_of(R"({"t":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0) == errc::corrupt_file);
    CHECK(code_of(R"({"__metadata__":{},"__metadata__":{}})", 0) == errc::corrupt_file);
    CHECK(code_of(R"({"__metadata__":{"a":"1","a":"2"}})", 0) == errc::corrupt_file);
}

TEST_CASE("deep nesting costs nothing") {
    const std::size_t depth = 1'000'000;
    CHECK(code_of("{\"t\":" + std::string(depth, '['), 0) == errc::corrupt_file);
    std::string objects;
    for (std::size_t i = 0; i < depth; ++i)
        objects += "{\"t\":";
    CHECK(code_of(objects, 0) == errc::corrupt_file);
}

TEST_CASE("more tensors than the limit are corrupt") {
    safetensors_limits limits;
    limits.tensors_max = 1;
    const std::string tensor = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
    CHECK(parse("{\"a\":" + tensor + "}", 0, limits));
    CHECK(parse("{\"a\":" + tensor + ",\"b\":" + tensor + "}", 0, limits).error().code == errc::corrupt_file);
}

TEST_CASE("a file that is missing, a folder or truncated says so") {
    const temporary_folder folder;
    CHECK(read_safetensors_header(folder.path() / "absent").error().code == errc::not_found);
    CHECK(read_safetensors_header(folder.path()).error().code == errc::io_error);
    folder.write("short", "abc");
    CHECK(read_safetensors_header(folder.path() / "short").error().code == errc::corrupt_file);
    folder.write("liar", std::string_view("\0\0\0\0\0\0\0\x10{}", 10));
    CHECK(read_safetensors_header(folder.path() / "liar").error().code == errc::corrupt_file);
}
