#include "core/model/checkpoint_files.hpp"

#include "core/model/bounded_json.hpp"
#include "core/model/shown_name.hpp"

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

/// Tensor name -> file name, as the index says.
result<std::map<std::string, std::string>> read_index(const std::filesystem::path& path) {
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
    std::map<std::string, std::string> index;
    for (const auto& [tensor, file] : map->items()) {
        if (!file.is_string() || !is_plain_file_name(file.get_ref<const std::string&>()))
            return fail(errc::corrupt_file, path.string() + ": the file of tensor " + shown_name(tensor) +
                                                " is not a plain file name in the same folder");
        index.emplace(tensor, file.get_ref<const std::string&>());
    }
    return index;
}

result<void> add_file(checkpoint_files& opened, const std::filesystem::path& path) {
    auto file = read_only_file::open(path);
    if (!file)
        return tl::unexpected(file.error());
    auto header = read_safetensors_header(*file);
    if (!header)
        return tl::unexpected(header.error());
    const auto number = static_cast<std::uint32_t>(opened.files.size());
    while (!header->tensors.empty()) {
        auto node = header->tensors.extract(header->tensors.begin());
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
    for (const auto& [tensor, file] : *index)
        names.insert(file);
    if (names.size() > files_max)
        return fail(errc::corrupt_file, index_path.string() + " names " + std::to_string(names.size()) +
                                            " files; at most " + std::to_string(files_max) + " are opened");
    checkpoint_files opened;
    std::map<std::string, std::uint32_t> numbers;
    for (const auto& name : names) {
        numbers.emplace(name, static_cast<std::uint32_t>(opened.files.size()));
        if (auto added = add_file(opened, folder / name); !added)
            return tl::unexpected(added.error());
    }
    for (const auto& [tensor, file] : *index) {
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
