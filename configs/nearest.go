package configs

import "strings"

// nearest finds the key that name was probably meant to be: the one with the
// fewest typing errors, whether name is a full name or only its last part, with
// dots or, as in a variable, without. It finds none when every candidate differs
// in over a third of its letters.
func nearest(name string, candidates []string) (string, bool) {
	undotted := strings.NewReplacer(".", "_")
	name = strings.ToLower(name)
	full, leaf := undotted.Replace(name), name[strings.LastIndexByte(name, '.')+1:]
	best, least := "", len(name)+1
	for _, c := range candidates {
		d := typingErrors(full, undotted.Replace(c))
		if _, last, nested := strings.Cut(c, "."); nested {
			d = min(d, 1+typingErrors(leaf, last))
		}
		if d < least {
			best, least = c, d
		}
	}
	return best, best != "" && least <= max(1, len(name)/3)
}

// typingErrors counts the letters left out, added, replaced or swapped with
// their neighbour (optimal string alignment distance).
func typingErrors(a, b string) int {
	var before []int
	last, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, make([]int, len(b)+1)
	}
	return last[len(b)]
}
