#include "core/evaluate/golden.hpp"

#include "core/model/safetensors.hpp"
#include "tests/model/temporary_folder.hpp"

#include <doctest/doctest.h>

using namespace moira;

namespace {

/// Writes golden.safetensors with any tensors; all bytes are zero.
class record_folder {
public:
    struct tensor {
        std::string name;
        tensor_type type;
        std::vector<std::int64_t> shape;
    };

    errc code_of(const std::vector<tensor>& tensors) const {
        const auto record = read(tensors);
        REQUIRE_FALSE(record);
        CHECK_FALSE(record.error().message.empty());
        return record.error().code;
    }

    result<golden_record> read(const std::vector<tensor>& tensors) const {
        std::vector<tensor_to_write> written;
        for (const auto& [name, type, shape] : tensors) {
            std::size_t bytes = tensor_type_bytes(type);
            for (const auto dimension : shape)
                bytes *= static_cast<std::size_t>(dimension);
            REQUIRE(bytes <= zeros_.size());
            written.push_back({name, type, shape, std::span(zeros_).first(bytes)});
        }
        REQUIRE(write_safetensors(folder.path() / "golden.safetensors", written));
        return read_golden(folder.path());
    }

    temporary_folder folder;

private:
    std::vector<std::byte> zeros_ = std::vector<std::byte>(4096);
};

using type = tensor_type;
const record_folder::tensor ids{"input_ids", type::i32, {3}};

/// `text` as bf16.json of a folder named "tiny".
result<std::optional<golden_limits>> limits_from(const std::string& text) {
    const temporary_folder outer;
    std::filesystem::create_directory(outer.path() / "tiny");
    outer.write("bf16.json", text);
    return read_bf16_limits(outer.path() / "tiny");
}

} // namespace

TEST_CASE("a record may lack anything but its ids, and says what it lacks") {
    const record_folder files;
    const auto record = files.read({ids});
    REQUIRE(record);
    CHECK(record->input_ids == std::vector<token_id>{0, 0, 0});
    CHECK(record->absent == std::vector<std::string>{"logits", "hidden.N", "routing.L", "greedy_ids", "greedy_logits"});
}

TEST_CASE("a record without ids is corrupt") {
    const record_folder files;
    CHECK(files.code_of({{"logits", type::f32, {3, 8}}}) == errc::corrupt_file);
    CHECK(files.code_of({{"input_ids", type::i32, {0}}}) == errc::corrupt_file);
}

TEST_CASE("known tensors of another type are not guessed at") {
    const record_folder files;
    CHECK(files.code_of({{"input_ids", type::i64, {3}}}) == errc::unsupported);
    CHECK(files.code_of({ids, {"logits", type::bf16, {3, 8}}}) == errc::unsupported);
    CHECK(files.code_of({ids, {"hidden.0", type::f16, {3, 8}}}) == errc::unsupported);
    CHECK(files.code_of({ids, {"routing.1", type::f32, {3, 2}}}) == errc::unsupported);
    CHECK(files.code_of({ids, {"greedy_ids", type::f32, {2}}}) == errc::unsupported);
}

TEST_CASE("tensors that do not fit the ids or each other are corrupt") {
    const record_folder files;
    CHECK(files.code_of({ids, {"logits", type::f32, {2, 8}}}) == errc::corrupt_file);
    CHECK(files.code_of({ids, {"logits", type::f32, {24}}}) == errc::corrupt_file);
    CHECK(files.code_of({ids, {"logits", type::f32, {3, 2, 4}}}) == errc::corrupt_file);
    CHECK(files.code_of({ids, {"hidden.0", type::f32, {3, 8}}, {"hidden.1", type::f32, {3, 9}}}) == errc::corrupt_file);
    CHECK(files.code_of({ids, {"routing.1", type::i32, {3, 2}}, {"routing.2", type::i32, {3, 4}}}) ==
          errc::corrupt_file);
    CHECK(files.code_of({ids, {"greedy_ids", type::i32, {2}}, {"greedy_logits", type::f32, {3, 8}}}) ==
          errc::corrupt_file);
    CHECK(files.code_of({ids, {"greedy_ids", type::i32, {1, 1}}}) == errc::corrupt_file);
    CHECK(files.code_of({ids,
                         {"logits", type::f32, {3, 8}},
                         {"greedy_ids", type::i32, {2}},
                         {"greedy_logits", type::f32, {2, 9}}}) == errc::corrupt_file);
    CHECK(files.code_of({{"input_ids", type::i32, {1, 3}}}) == errc::corrupt_file);
}

TEST_CASE("tensors with names that only resemble the known ones are left alone") {
    const record_folder files;
    const auto record =
        files.read({ids, {"hidden.", type::i8, {1}}, {"hidden.x", type::i8, {1}}, {"routing.9999999", type::i8, {1}}});
    REQUIRE(record);
    CHECK(record->hidden.empty());
    CHECK(record->routing.empty());
}

TEST_CASE("a file that is not there or not safetensors is an error") {
    const temporary_folder folder;
    const auto missing = read_golden(folder.path());
    REQUIRE_FALSE(missing);
    CHECK(missing.error().code == errc::not_found);
    folder.write("golden.safetensors", "this is no such file");
    const auto broken = read_golden(folder.path());
    REQUIRE_FALSE(broken);
    CHECK(broken.error().code == errc::corrupt_file);
}

TEST_CASE("limits of bfloat16 come from a file in or beside the folder") {
    const auto found = limits_from(
        R"({"tiny": {"median_row_error": 0.1, "max_error_same_route": 0.2, "rows_rerouted": 3, "rows": 40}})");
    REQUIRE(found);
    REQUIRE(*found);
    CHECK((*found)->median_row_error_max == 0.1);
    CHECK((*found)->max_abs_error == doctest::Approx(0.3));
    CHECK((*found)->rows_rerouted_max == 5);
}

TEST_CASE("no file, another model or another shape of the file give no limits") {
    for (const auto* text : {"", "[]", "{", "{}", R"({"large": {"rows": 1}})"}) {
        CAPTURE(text);
        const auto found = limits_from(text);
        REQUIRE(found);
        CHECK_FALSE(*found);
    }
}

TEST_CASE("limits that are no numbers, or numbers that bound nothing, are corrupt") {
    const auto code = [](const std::string& median, const std::string& largest, const std::string& rerouted) {
        const auto found = limits_from(R"({"tiny": {"median_row_error": )" + median + R"(, "max_error_same_route": )" +
                                       largest + R"(, "rows_rerouted": )" + rerouted + "}}");
        REQUIRE_FALSE(found);
        return found.error().code;
    };
    CHECK(code("\"x\"", "1", "1") == errc::corrupt_file);
    CHECK(code("null", "1", "1") == errc::corrupt_file);
    CHECK(code("1", "-1", "1") == errc::corrupt_file);
    CHECK(code("-0.5", "1", "1") == errc::corrupt_file);
    CHECK(code("1", "1", "99999999999") == errc::corrupt_file);
    CHECK(code("1", "1", "1.5") == errc::corrupt_file);
    CHECK(code("1", "1", "-1") == errc::corrupt_file);
    CHECK(limits_from(R"({"tiny": 3})").error().code == errc::corrupt_file);
}
