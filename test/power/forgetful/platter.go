package forgetful

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
)

// rootID is the number of the root directory.
const rootID = 1

// entry is a name in a directory, as it is stored.
type entry struct {
	ID   uint64 `json:"id"`
	Mode uint32 `json:"mode"`
}

// platter is what has been synced: a file of bytes for each file and a list of names for each
// directory, by number. It is not safe for concurrent use.
type platter struct {
	dir   string
	names map[uint64]map[string]entry
	// home is the directory that names a file.
	home map[uint64]uint64
	next uint64
}

// openPlatter reads the directories that dir holds; an empty dir is an empty disk.
func openPlatter(dir string) (*platter, error) {
	p := &platter{dir: dir, names: map[uint64]map[string]entry{}, home: map[uint64]uint64{}, next: rootID + 1}
	return p, p.load(rootID)
}

func (p *platter) load(id uint64) error {
	names := map[string]entry{}
	p.names[id] = names
	text, err := os.ReadFile(p.namesPath(id))
	switch {
	case errors.Is(err, fs.ErrNotExist): // named by its parent, but never synced itself
	case err != nil:
		return fmt.Errorf("read directory %d: %w", id, err)
	default:
		if err := json.Unmarshal(text, &names); err != nil {
			return fmt.Errorf("read directory %d: %w", id, err)
		}
	}
	for name, e := range names {
		if _, twice := p.home[e.ID]; twice { // the power went in the middle of a move
			delete(names, name)
			continue
		}
		p.home[e.ID] = id
		p.next = max(p.next, e.ID+1)
		if isDir(e.Mode) {
			if err := p.load(e.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// number returns one that no file or directory has. A number that was never synced may be given
// out again after a power cut, and then finds no bytes of its former owner (see fresh).
func (p *platter) number() uint64 {
	p.next++
	return p.next - 1
}

// fresh removes what an earlier file of this number left behind.
func (p *platter) fresh(id uint64) error {
	for _, path := range []string{p.bytesPath(id), p.namesPath(id)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("begin file %d: %w", id, err)
		}
	}
	return nil
}

// bytes is what was synced of a file, nothing if it never was.
func (p *platter) bytes(id uint64) ([]byte, error) {
	data, err := os.ReadFile(p.bytesPath(id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read file %d: %w", id, err)
	}
	return data, nil
}

// write stores the pages of a file that changed, and its size.
func (p *platter) write(id uint64, data []byte, pages map[int64]struct{}) error {
	f, err := os.OpenFile(p.bytesPath(id), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("sync file %d: %w", id, err)
	}
	defer f.Close()
	size := int64(len(data))
	for page := range pages {
		begin := min(page*pageSize, size)
		if _, err := f.WriteAt(data[begin:min(begin+pageSize, size)], begin); err != nil {
			return fmt.Errorf("sync file %d: %w", id, err)
		}
	}
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("sync file %d: %w", id, err)
	}
	return nil
}

// link stores one name of a directory, and forgets other names that the same file had there.
func (p *platter) link(dir uint64, name string, e entry) error {
	if p.names[dir][name] == e {
		return nil
	}
	names := map[string]entry{name: e}
	for other, there := range p.names[dir] {
		if other != name && there.ID != e.ID {
			names[other] = there
		}
	}
	return p.list(dir, names)
}

// list stores all names of a directory at once. What came from another directory leaves that
// one, as a journal makes a rename one step.
func (p *platter) list(dir uint64, names map[string]entry) error {
	if err := p.store(dir, names); err != nil {
		return err
	}
	for _, e := range names {
		former, known := p.home[e.ID]
		p.home[e.ID] = dir
		if !known || former == dir {
			continue
		}
		left := maps.Clone(p.names[former])
		maps.DeleteFunc(left, func(_ string, there entry) bool { return there.ID == e.ID })
		if err := p.store(former, left); err != nil {
			return err
		}
	}
	return nil
}

func (p *platter) store(dir uint64, names map[string]entry) error {
	text, err := json.Marshal(names)
	if err != nil {
		return fmt.Errorf("sync directory %d: %w", dir, err)
	}
	fresh := p.namesPath(dir) + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return fmt.Errorf("sync directory %d: %w", dir, err)
	}
	if err := os.Rename(fresh, p.namesPath(dir)); err != nil {
		return fmt.Errorf("sync directory %d: %w", dir, err)
	}
	p.names[dir] = names
	return nil
}

func (p *platter) bytesPath(id uint64) string { return filepath.Join(p.dir, fmt.Sprint(id, ".bytes")) }
func (p *platter) namesPath(id uint64) string { return filepath.Join(p.dir, fmt.Sprint(id, ".names")) }
