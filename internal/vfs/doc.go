// Package vfs is the seam between what keeps mail and the file system: everything that the store's engine and its journal ask of the
// operating system, so that tests can put something in its place that fails or loses power at a chosen step (package vfstest).
//
// It owns no policy: what a failure means is said by package store and done by store/boltstore.
package vfs
