#include "core/model/checkpoint_files.hpp"

#include "core/model/bounded_json.hpp"
#include "core/model/content_hash.hpp"
#include "core/model/shown_name.hpp"

#include <optional>
#include <set>

namespace moira {

namespace {

constexpr std::string_view single_name = "model.safetensors";
constexpr std::string_view index_name = "model.safetensors.index.json";
/// DeepSeek-V3's index has 8.9 MB.
constexpr std::uint64_t index_bytes_max = 128'000'000;
/// DeepSeek-V3 has 163 shards. Each holds a descriptor, of which a process has 1,024 by default.
constexpr std::size_t files_max = 900;

/// A plain file name: an index comes with the download and must not choose files elsewhere.
bool is_plain_file_name(const std::string& name) {
    return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
           name.find('\0') == std::string::npos;
}

/// What the index says: tensor name -> file name, and the checksums of headers where the model was packed.
struct shard_index {
    std::map<std::string, std::string> files;
    std::map<std::string, std::uint64_t> header_hashes; ///< file name -> content_hash of all before its data
};

/// Headers have no checksum inside themselves: the index holds those of packed files.
result<void> read_header_hashes(const nlohmann::json& index, const std::filesystem::path& path, shard_index& read) {
    const auto metadata = index.find("metadata");
    if (metadata == index.end() || !metadata->is_object() || !metadata->contains(header_checksums_key))
        return {};
    const auto& hashes = (*metadata)[header_checksums_key];
    if (!hashes.is_object() || hashes.size() > files_max)
        return fail(errc::corrupt_file, path.string() + ": " + std::string(header_checksums_key) +
                                            " is no object of at most " + std::to_string(files_max) + " files");
    for (const auto& [file, hash] : hashes.items()) {
        std::uint64_t value = 0;
        if (!hash.is_string() || !read_hash_text(hash.get_ref<const std::string&>(), value))
            return fail(errc::corrupt_file,
                        path.string() + ": the checksum of " + shown_name(file) + " is not 16 hexadecimal digits");
        read.header_hashes.emplace(file, value);
    }
    return {};
}

result<shard_index> read_index(const std::filesystem::path& path) {
    const auto text = read_text_file(path, index_bytes_max);
    if (!text)
        return tl::unexpected(text.error());
    const auto document = parse_json_object(*text, path.string(), errc::corrupt_file);
    if (!document)
        return tl::unexpected(document.error());
    const auto map = document->find("weight_map");
    if (map == document->end() || !map->is_object())
        return fail(errc::corrupt_file, path.string() + " has no object weight_map");
    if (map->size() > safetensors_limits{}.tensors_max)
        return fail(errc::corrupt_file, path.string() + " names " + std::to_string(map->size()) + " tensors");
    shard_index index;
    for (const auto& [tensor, file] : map->items()) {
        if (!file.is_string() || !is_plain_file_name(file.get_ref<const std::string&>()))
            return fail(errc::corrupt_file, path.string() + ": the file of tensor " + shown_name(tensor) +
                                                " is not a plain file name in the same folder");
        index.files.emplace(tensor, file.get_ref<const std::string&>());
    }
    if (auto hashes = read_header_hashes(*document, path, index); !hashes)
        return tl::unexpected(hashes.error());
    return index;
}

/// The bytes before the data are those that were written.
result<void> check_header(const read_only_file& file, std::uint64_t header_bytes, std::uint64_t expected) {
    std::vector<std::byte> header(static_cast<std::size_t>(header_bytes)); // at most header_bytes_max: it was read
    if (auto read = file.read_at(0, header); !read)
        return read;
    return check_content({0, header_bytes, expected}, header, "the header", file.path().string());
}

/// How the file's experts lie, which is the same for all files.
result<void> read_layout(const safetensors_header& header, const std::filesystem::path& path,
                         checkpoint_files& opened) {
    const auto text = header.metadata.find(expert_layout_key);
    if (text == header.metadata.end())
        return {};
    auto layout = parse_layout(text->second, path.string());
    if (!layout)
        return tl::unexpected(layout.error());
    if (opened.layout && !(*opened.layout == *layout))
        return fail(errc::corrupt_file, path.string() + " holds experts in " + layout_name(*layout) +
                                            " of other sizes or types than the files before it: pack the model again");
    opened.layout = std::move(*layout);
    return {};
}

result<void> add_file(checkpoint_files& opened, const std::filesystem::path& path,
                      std::optional<std::uint64_t> header_hash = std::nullopt) {
    auto file = read_only_file::open(path);
    if (!file)
        return tl::unexpected(file.error());
    auto header = read_safetensors_header(*file);
    if (!header)
        return tl::unexpected(header.error());
    if (header_hash)
        if (auto checked = check_header(*file, header->data_begin, *header_hash); !checked)
            return checked;
    auto& checksums = opened.checksums.emplace_back();
    if (const auto text = header->metadata.find(checksums_key); text != header->metadata.end()) {
        auto parsed = parse_checksums(text->second, header->data_begin, file->bytes(), path.string());
        if (!parsed)
            return tl::unexpected(parsed.error());
        checksums = std::move(*parsed);
    }
    if (auto read = read_layout(*header, path, opened); !read)
        return read;
    const auto number = static_cast<std::uint32_t>(opened.files.size());
    while (!header->tensors.empty()) {
        auto node = header->tensors.extract(header->tensors.begin());
        if (node.key().starts_with(padding_prefix))
            continue;
        node.mapped().file = number;
        const auto added = opened.tensors.insert(std::move(node));
        if (!added.inserted)
            return fail(errc::corrupt_file, path.string() + " holds tensor " + shown_name(added.node.key()) +
                                                ", which " + opened.files[added.position->second.file].path().string() +
                                                " holds too");
    }
    if (opened.tensors.size() > safetensors_limits{}.tensors_max)
        return fail(errc::corrupt_file, path.string() + " brings the number of tensors over " +
                                            std::to_string(safetensors_limits{}.tensors_max));
    opened.files.push_back(std::move(*file));
    return {};
}

result<checkpoint_files> open_shards(const std::filesystem::path& folder) {
    const auto index_path = folder / index_name;
    const auto index = read_index(index_path);
    if (!index)
        return tl::unexpected(index.error());
    std::set<std::string> names;
    for (const auto& [tensor, file] : index->files)
        names.insert(file);
    if (names.size() > files_max)
        return fail(errc::corrupt_file, index_path.string() + " names " + std::to_string(names.size()) +
                                            " files; at most " + std::to_string(files_max) + " are opened");
    checkpoint_files opened;
    std::map<std::string, std::uint32_t> numbers;
    for (const auto& name : names) {
        numbers.emplace(name, static_cast<std::uint32_t>(opened.files.size()));
        const auto hash = index->header_hashes.find(name);
        const bool packed = hash != index->header_hashes.end();
        if (auto added = add_file(opened, folder / name, packed ? std::optional(hash->second) : std::nullopt); !added)
            return tl::unexpected(added.error());
    }
    for (const auto& [tensor, file] : index->files) {
        const auto at = opened.tensors.find(tensor);
        if (at == opened.tensors.end() || at->second.file != numbers.at(file))
            return fail(errc::corrupt_file, index_path.string() + " promises tensor " + shown_name(tensor) + " in " +
                                                shown_name(file) + ", which does not hold it");
    }
    return opened;
}

} // namespace

result<checkpoint_files> open_checkpoint_files(const std::filesystem::path& folder) {
    std::error_code ignored;
    // The single file first, as transformers does.
    if (!std::filesystem::exists(folder / single_name, ignored)) {
        if (std::filesystem::exists(folder / index_name, ignored))
            return open_shards(folder);
        return fail(errc::not_found,
                    folder.string() + " holds neither " + std::string(single_name) + " nor " + std::string(index_name));
    }
    checkpoint_files opened;
    if (auto added = add_file(opened, folder / single_name); !added)
        return tl::unexpected(added.error());
    return opened;
}

} // namespace moira
