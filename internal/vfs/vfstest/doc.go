// Package vfstest is the file system of package vfs as tests want it: one that loses power at a chosen step ([Disk]), one of which a
// chosen operation fails ([Faulty]), one that is full ([Full]), and one that notes what is asked of it and lets a test hold it up
// ([Trace]).
//
// It owns what a device may keep of what was not synced. It knows nothing of what the files mean. [Faulty], [Full] and [Trace] work on
// any other vfs.FS, so that a full device can lose power too.
//
// A test that wants the power to go at every step runs once without a cut, asks [Disk.Steps] how many there were, and runs again for
// each of them:
//
//	d := vfstest.NewDisk(t, dir, seed, step)
//	work(d)            // until everything fails with ErrPowerCut
//	d.Restore(after)   // what the device kept, in a fresh directory
//	d = vfstest.NewDisk(t, after, seed+1, 0)
package vfstest
