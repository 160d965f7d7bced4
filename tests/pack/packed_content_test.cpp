// Damage in packed files: what finds it, and what it is called.
#include "tests/execute/test_engine.hpp"
#include "tests/pack/packed_folder.hpp"

#include <doctest/doctest.h>
#include <fstream>

using namespace moira;
namespace fs = std::filesystem;

namespace {

struct packed_model {
    temporary_folder folder;
    fs::path path = folder.path() / "packed";

    explicit packed_model(packed_precision precision = packed_precision::keep, const fs::path& place = quick_place())
        : folder(place) {
        pack_well(request_for(small_model(), path, precision));
    }

    checkpoint open() const {
        auto model = checkpoint::open(path);
        REQUIRE_MESSAGE(model, model.error().message);
        return std::move(*model);
    }

    static void flip(const fs::path& file, std::uint64_t at, int bit = 2) {
        std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
        stream.seekg(static_cast<std::streamoff>(at));
        const auto byte = static_cast<char>(stream.get());
        stream.seekp(static_cast<std::streamoff>(at));
        stream.put(static_cast<char>(byte ^ (1 << bit)));
        REQUIRE(stream.flush());
    }

    /// One bit in the middle of a tensor.
    void flip(const std::string& tensor) const {
        const auto model = open();
        const auto* place = model.find(tensor);
        REQUIRE(place);
        flip(model.files()[place->file], place->offset + place->bytes / 2);
    }
};

} // namespace

TEST_CASE("a flipped bit of an expert fails what needs it, says where, and goes when the file is restored") {
    const auto ids = some_tokens(40);
    for (const auto precision : {packed_precision::keep, packed_precision::fp8})
        for (const auto io : {expert_io::buffered, expert_io::direct}) {
            const packed_model packed(precision, fs::temp_directory_path()); // a disk, for direct reads
            const std::string tensor = "model.layers.2.mlp.experts.5.down_proj.weight";
            test_engine::wanted how;
            how.options.io = io;
            const auto expected = logits_of(*test_engine::required(packed.path, how).model, ids, 40);
            REQUIRE(expected);
            packed.flip(tensor);
            const auto damaged = test_engine::required(packed.path, how);
            const auto failed = logits_of(*damaged.model, ids, 40);
            REQUIRE_FALSE(failed);
            CHECK(failed.error().code == errc::corrupt_file);
            for (const std::string word : {"expert 5 of layer 2", "model.layers.2.mlp.experts.5", ".safetensors"})
                CHECK_MESSAGE(failed.error().message.find(word) != std::string::npos, failed.error().message);
            CHECK(damaged.model->experts().statistics().load_retries == 0);
            packed.flip(tensor); // back
            const auto found = logits_of(*damaged.model, ids, 40);
            REQUIRE_MESSAGE(found, found.error().message);
            CHECK(same_bits(*found, *expected));
        }
}

TEST_CASE("a flipped bit of any other tensor ends the load and names the tensor") {
    for (const std::string tensor :
         {"model.embed_tokens.weight", "model.layers.1.mlp.gate.weight", "model.layers.0.input_layernorm.weight",
          "model.layers.1.mlp.shared_experts.up_proj.weight", "model.layers.2.self_attn.kv_b_proj.weight"}) {
        const packed_model packed;
        packed.flip(tensor);
        const auto damaged = test_engine::open(packed.path, {});
        REQUIRE_FALSE(damaged);
        CHECK(damaged.error().code == errc::corrupt_file);
        CHECK(damaged.error().message.find(tensor) != std::string::npos);
        packed.flip(tensor);
        CHECK(test_engine::open(packed.path, {}));
    }
}

TEST_CASE("no bit of a packed file flips unseen but in padding") {
    const packed_model packed;
    const auto model = packed.open();
    for (std::uint32_t file = 0; file < model.files().size(); ++file) {
        std::uint64_t covered = 0;
        for (const auto& range : model.checksums(file))
            covered += range.bytes;
        std::uint64_t tensors = 0;
        for (const auto& [name, tensor] : model.tensors())
            tensors += tensor.file == file ? tensor.bytes : 0;
        CHECK(covered == tensors);
    }
    // The header has its own checksum in the index: no flip there leads to a model that opens.
    const auto file = model.files().front();
    const auto data_begin = read_safetensors_header(file)->data_begin;
    for (std::uint64_t at = 0; at < data_begin; at += 97) {
        CAPTURE(at);
        packed_model::flip(file, at, static_cast<int>(at % 8));
        const auto damaged = checkpoint::open(packed.path);
        REQUIRE_FALSE(damaged);
        CHECK((damaged.error().code == errc::corrupt_file || damaged.error().code == errc::unsupported));
        packed_model::flip(file, at, static_cast<int>(at % 8));
    }
    CHECK(checkpoint::open(packed.path));
}

TEST_CASE("damage in a packed source is not packed again") {
    for (const auto precision : {packed_precision::keep, packed_precision::fp8}) {
        const packed_model packed;
        packed.flip("model.layers.1.mlp.experts.3.up_proj.weight");
        const auto refused = pack_model(request_for(packed.path, packed.folder.path() / "again", precision));
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == errc::corrupt_file);
        CHECK(refused.error().message.find("model.layers.1.mlp.experts.3") != std::string::npos);
    }
}

TEST_CASE("checksums are written and read alike, and nonsense is refused") {
    const std::vector<checksum_range> ranges = {{100, 20, 7}, {120, 0, 0}, {4096, 5, UINT64_MAX}};
    const auto text = checksums_text(ranges, 100);
    const auto read = parse_checksums(text, 100, 5000, "test");
    REQUIRE(read);
    REQUIRE(read->size() == ranges.size());
    for (std::size_t index = 0; index < ranges.size(); ++index) {
        CHECK((*read)[index].offset == ranges[index].offset);
        CHECK((*read)[index].bytes == ranges[index].bytes);
        CHECK((*read)[index].hash == ranges[index].hash);
    }
    CHECK(covering_range(*read, 4097, 4) == &(*read)[2]);
    CHECK(covering_range(*read, 4097, 5) == nullptr);
    CHECK(covering_range(*read, 99, 1) == nullptr);
    CHECK(covering_range(*read, 200, UINT64_MAX) == nullptr);
    const std::string hash(16, 'a');
    for (const std::string& bad :
         std::vector<std::string>{"1;0,5," + hash + ";4,2," + hash, "1;0,5000," + hash,
                                  "1;18446744073709551615,2," + hash, "1;0,18446744073709551615," + hash, "1;0,5,short",
                                  "1;0,5", "1;-1,5," + hash, "1;0, 5," + hash, "1;;", "1;0,5," + hash + "0"}) {
        CAPTURE(bad);
        const auto refused = parse_checksums(bad, 100, 5000, "test");
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == errc::corrupt_file);
    }
    CHECK(parse_checksums("2;0,5," + hash, 100, 5000, "test").error().code == errc::unsupported);
    CHECK(parse_checksums("1", 100, 5000, "test")->empty());
}
