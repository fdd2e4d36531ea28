P1=$(pgrep -f "latchkey demo" | head -1); P2=$(pgrep -f "latchkey2 demo"|head -1); W1=$(sed -n 's/^  bob@demo.example *//p' demo.log | head -1); W2=$(sed -n 's/^  bob@demo.example *//p' demo2.log | head -1)
for i in 1 2 3; do echo "A $(./drv.bin list 127.0.0.1:2110 bob@demo.example $W1 $P1 5)"; echo "B $(./drv.bin list 127.0.0.1:3110 bob@demo.example $W2 $P2 5)"; done
